//! How many instances of a version there are, for how long, and in which windows of the week more are kept ready.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Limits, ParseError};

/// How many instances there are, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Scale {
    /// Instances kept ready without calls, in the whole mesh, of a version that an alias points at. Default 0; at most
    /// [`Scale::WARM_MAX`].
    pub warm: u32,
    /// Most calls of the version at a time on one node, if that is fewer than `limits.concurrency`. Default 100.
    pub max: u32,
    /// Time without a call after which the activation stops, in milliseconds. Default 60,000.
    pub idle_ms: u64,
    /// Windows in which more are kept ready than `warm`. Default none; at most [`Scale::WINDOWS_MAX`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schedule: Vec<Window>,
}

/// A part of the week in which more instances are kept ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The days on which it begins; all if none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Day>,
    /// From when to when.
    pub between: Between,
    /// Instances kept ready meanwhile, in the whole mesh; from 1 to [`Scale::WARM_MAX`].
    pub warm: u32,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "their names say all")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// Two times of the day in UTC, as in `08:00-18:00`. The second is not part of it; if it is the earlier one, it is that
/// of the next day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Between {
    from_minute: u16,
    to_minute: u16,
}

/// A minute of the week in UTC, counted from Monday's first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeekMinute(u16);

const DAY_MINUTES: u16 = 24 * 60;
const WEEK_MINUTES: u16 = 7 * DAY_MINUTES;

impl Scale {
    /// Most instances kept ready: as many as one version has calls on one node at most.
    pub const WARM_MAX: u32 = Limits::CONCURRENCY_MAX;
    /// Most windows: two for each day of the week and two more.
    pub const WINDOWS_MAX: usize = 16;

    /// How many instances are to be kept ready at `now`: the most that any rule says.
    pub fn warm_at(&self, now: WeekMinute) -> u32 {
        let open = self.schedule.iter().filter(|window| window.is_open(now));
        open.map(|window| window.warm).max().unwrap_or(0).max(self.warm)
    }

    /// Says what is out of range, if something is.
    pub fn check(&self) -> Result<(), String> {
        if self.warm > Self::WARM_MAX {
            return Err(format!("scale.warm is {}; it must be from 0 to {}", self.warm, Self::WARM_MAX));
        }
        if self.max == 0 {
            return Err("scale.max is 0; it must be at least 1".to_owned());
        }
        if self.schedule.len() > Self::WINDOWS_MAX {
            let (count, most) = (self.schedule.len(), Self::WINDOWS_MAX);
            return Err(format!("scale.schedule has {count} windows; at most {most} are allowed: join some"));
        }
        // Counted as people count.
        let numbered = self.schedule.iter().zip(1..);
        numbered.map(|(window, number)| (window.check(), number)).try_for_each(|(checked, number)| {
            checked.map_err(|wrong| format!("scale.schedule, window {number}: {wrong}"))
        })
    }
}

impl Default for Scale {
    fn default() -> Self {
        Self { warm: 0, max: 100, idle_ms: 60_000, schedule: Vec::new() }
    }
}

impl Window {
    fn check(&self) -> Result<(), String> {
        if !(1..=Scale::WARM_MAX).contains(&self.warm) {
            return Err(format!(
                "warm is {}; it must be from 1 to {}, since a window only adds to scale.warm",
                self.warm,
                Scale::WARM_MAX
            ));
        }
        let mut days = self.days.clone();
        days.sort_unstable();
        match days.windows(2).find(|two| two[0] == two[1]) {
            Some(twice) => Err(format!("days has `{}` twice", twice[0].as_str())),
            None => Ok(()),
        }
    }

    fn is_open(&self, now: WeekMinute) -> bool {
        let Between { from_minute, to_minute } = self.between;
        let begins = |day: u16| self.days.is_empty() || self.days.iter().any(|named| *named as u16 == day);
        let (day, minute) = (now.0 / DAY_MINUTES, now.0 % DAY_MINUTES);
        if from_minute < to_minute {
            return begins(day) && (from_minute..to_minute).contains(&minute);
        }
        begins(day) && minute >= from_minute || begins((day + 6) % 7) && minute < to_minute
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days: Vec<_> = self.days.iter().map(|day| day.as_str()).collect();
        let days = if days.is_empty() { "every day".to_owned() } else { days.join(", ") };
        write!(f, "warm {} on {days} between {} UTC", self.warm, self.between)
    }
}

impl Day {
    /// The word for it in files and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mon => "mon",
            Self::Tue => "tue",
            Self::Wed => "wed",
            Self::Thu => "thu",
            Self::Fri => "fri",
            Self::Sat => "sat",
            Self::Sun => "sun",
        }
    }
}

impl WeekMinute {
    /// The minute of so many milliseconds after the Unix epoch, which began on a Thursday.
    pub fn of_unix_ms(ms: u64) -> Self {
        let minutes = ms / 60_000 + 3 * u64::from(DAY_MINUTES);
        // Less than a week of minutes fits.
        Self(u16::try_from(minutes % u64::from(WEEK_MINUTES)).unwrap_or(0))
    }
}

impl FromStr for Between {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = |reason| ParseError::new("window of time", text, reason);
        let form = "write two times of the day in UTC, as in `08:00-18:00`, from 00:00 to 24:00";
        let (from, to) = text.split_once('-').ok_or_else(|| wrong(form))?;
        let (Some(from_minute), Some(to_minute)) = (minute(from.trim()), minute(to.trim())) else {
            return Err(wrong(form));
        };
        // 24:00 is the end of this day and the beginning of the next: a window can only end with it.
        if from_minute == to_minute || from_minute == DAY_MINUTES || (from_minute, to_minute) == (0, 0) {
            return Err(wrong("it has no length; the whole day is `00:00-24:00`"));
        }
        Ok(Self { from_minute, to_minute })
    }
}

/// `HH:MM` as minutes.
fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str| {
        let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { text.parse::<u16>().ok() } else { None }
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    Some(hours * 60 + minutes).filter(|all| minutes < 60 && *all <= DAY_MINUTES)
}

impl fmt::Display for Between {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from_minute, self.to_minute);
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

impl TryFrom<String> for Between {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<Between> for String {
    fn from(between: Between) -> Self {
        between.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec;

    const DAYS: [Day; 7] = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri, Day::Sat, Day::Sun];

    /// `mon,tue 08:00-18:00 3`, `* 22:00-02:00 5`.
    fn window(text: &str) -> Window {
        let words: Vec<_> = text.split(' ').collect();
        let day = |word: &str| DAYS.into_iter().find(|day| day.as_str() == word).unwrap();
        let days = if words[0] == "*" { Vec::new() } else { words[0].split(',').map(day).collect() };
        Window { days, between: words[1].parse().unwrap(), warm: words[2].parse().unwrap() }
    }

    fn scale(windows: &str) -> Scale {
        let schedule = windows.split("; ").filter(|text| !text.is_empty()).map(window).collect();
        Scale { warm: 1, schedule, ..Scale::default() }
    }

    /// `tue 07:59`.
    fn at(text: &str) -> WeekMinute {
        let (day, time) = text.split_once(' ').unwrap();
        let day = DAYS.iter().position(|one| one.as_str() == day).unwrap();
        WeekMinute(u16::try_from(day).unwrap() * DAY_MINUTES + minute(time).unwrap())
    }

    fn check(windows: &str, now: &str, expected: u32) {
        assert_eq!(scale(windows).warm_at(at(now)), expected, "{windows} at {now}");
    }

    #[test]
    fn a_window_is_open_from_its_first_minute_to_before_its_last_on_its_days() {
        let working = "mon,tue 08:00-18:00 3";
        for (now, warm) in [("mon 07:59", 1), ("mon 08:00", 3), ("tue 17:59", 3), ("tue 18:00", 1), ("wed 12:00", 1)] {
            check(working, now, warm);
        }
        check("* 00:00-24:00 2", "sun 23:59", 2);
        check("", "mon 00:00", 1);
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
        let night = "sun 22:00-02:00 4";
        for (now, warm) in [("sun 01:00", 1), ("sun 22:00", 4), ("mon 01:59", 4), ("mon 02:00", 1), ("mon 22:00", 1)] {
            check(night, now, warm);
        }
        check("* 22:00-02:00 4", "thu 01:00", 4);
        check("fri 22:00-00:00 4", "fri 23:59", 4);
        check("fri 22:00-00:00 4", "sat 00:00", 1);
    }

    #[test]
    fn of_several_rules_the_largest_counts() {
        let both = "* 08:00-18:00 3; mon 12:00-13:00 2; mon 12:30-12:31 9";
        for (now, warm) in [("mon 12:00", 3), ("mon 12:30", 9), ("mon 12:31", 3), ("mon 19:00", 1)] {
            check(both, now, warm);
        }
    }

    #[test]
    fn the_epoch_began_on_a_thursday() {
        assert_eq!(WeekMinute::of_unix_ms(59_999), at("thu 00:00"));
        // 2026-11-21T15:04:05Z, a Saturday.
        assert_eq!(WeekMinute::of_unix_ms(1_795_273_445_000), at("sat 15:04"));
    }

    #[test]
    fn what_is_no_window_is_refused_with_what_to_write() {
        for text in ["", "08:00", "8:00-18:00", "08:00-18:60", "08:00-24:01", "08:00-18:00-20:00", "+8:00-18:00", "mon"]
        {
            let error = text.parse::<Between>().unwrap_err().to_string();
            assert!(error.contains("as in `08:00-18:00`"), "{error}");
        }
        for text in ["08:00-08:00", "24:00-02:00", "00:00-00:00"] {
            assert!(text.parse::<Between>().unwrap_err().to_string().contains("`00:00-24:00`"), "{text}");
        }
        let check = |windows: &str, expected: &str| {
            let error = scale(windows).check().unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check("* 08:00-18:00 1; * 08:00-18:00 0", "scale.schedule, window 2: warm is 0; it must be from 1 to 512");
        check("mon,tue,mon 08:00-18:00 1", "window 1: days has `mon` twice");
        check(&vec!["* 08:00-18:00 1"; 17].join("; "), "scale.schedule has 17 windows; at most 16");
        assert_eq!(scale("mon 08:00-18:00 1").check(), Ok(()));
    }

    #[test]
    fn a_scale_without_a_schedule_is_written_as_before_and_one_with_it_has_these_golden_bytes() {
        let plain = codec::encode(&scale("")).unwrap();
        assert_eq!(plain.escape_ascii().to_string(), r"\x83\xa4warm\x01\xa3maxd\xa7idle_ms\xcd\xea`");
        let golden = r"\x84\xa4warm\x01\xa3maxd\xa7idle_ms\xcd\xea`\xa8schedule\x91\x83\xa4days\x91\xa3mon\xa7between\xab08:00-18:00\xa4warm\x03";
        let with = codec::encode(&scale("mon 08:00-18:00 3")).unwrap();
        assert_eq!(with.escape_ascii().to_string(), golden);
        assert_eq!(codec::decode::<Scale>(&plain).unwrap(), scale(""));
        assert_eq!(codec::decode::<Scale>(&with).unwrap(), scale("mon 08:00-18:00 3"));
    }

    proptest! {
        #[test]
        fn any_text_is_a_window_of_time_or_refused(text in "([0-9]{1,2}:[0-9]{1,2}-[0-9]{1,2}:[0-9]{1,2}|\\PC{0,20})") {
            if let Ok(between) = text.parse::<Between>() {
                prop_assert_eq!(between.to_string().parse::<Between>().unwrap(), between);
            }
        }

        #[test]
        fn a_window_is_open_as_long_as_it_says_and_never_lowers_the_count(
            from in 0_u16..1_440, length in 1_u16..=1_440, days in proptest::sample::subsequence(DAYS.to_vec(), 0..=7),
        ) {
            let to = if from + length <= DAY_MINUTES { from + length } else { from + length - DAY_MINUTES };
            prop_assume!(from != to);
            let count = if days.is_empty() { 7 } else { days.len() };
            let window = Window { days, between: Between { from_minute: from, to_minute: to }, warm: 2 };
            let scale = Scale { warm: 1, schedule: vec![window], ..Scale::default() };
            let open = (0..WEEK_MINUTES).filter(|minute| scale.warm_at(WeekMinute(*minute)) == 2).count();
            prop_assert_eq!(open, count * usize::from(length));
            prop_assert!((0..WEEK_MINUTES).all(|minute| scale.warm_at(WeekMinute(minute)) >= 1));
        }
    }
}
