//! How figures are shown: medians of interleaved rounds, and ratios to the first row.

use std::time::Duration;

/// What one round of one subject gave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) per_second: f64,
}

/// One subject with its rounds.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) samples: Vec<Sample>,
}

impl Row {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, samples: Vec::new() }
    }
}

impl Sample {
    /// The figures of the calls of one round.
    pub(crate) fn of(mut latencies: Vec<Duration>, took: Duration) -> Self {
        latencies.sort();
        let at = |share: usize| latencies.get(latencies.len() * share / 100).copied().unwrap_or_default();
        Self { p50: at(50), p99: at(99), per_second: latencies.len() as f64 / took.as_secs_f64() }
    }
}

/// Says which machine this is: figures mean nothing without it.
pub(crate) fn machine() {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("machine: {cores} cores; medians of interleaved rounds; ratios are to the first row of each table\n");
}

/// Prints a table; the first row is what the others are compared with.
pub(crate) fn table(title: &str, rows: &[Row]) {
    println!("{title}");
    println!("  {:<34} {:>10} {:>10} {:>11}  {:>9} {:>9}", "", "p50 µs", "p99 µs", "per second", "p50 ×", "rate ×");
    let base = rows.first().map(median);
    for row in rows {
        let sample = median(row);
        let (p50, rate) = base.map_or((1.0, 1.0), |base| {
            (sample.p50.as_secs_f64() / base.p50.as_secs_f64(), sample.per_second / base.per_second)
        });
        println!(
            "  {:<34} {:>10.1} {:>10.1} {:>11.0}  {p50:>9.2} {rate:>9.2}",
            row.name,
            micros(sample.p50),
            micros(sample.p99),
            sample.per_second
        );
    }
    println!();
}

pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn median(row: &Row) -> Sample {
    let by = |figure: fn(&Sample) -> f64| {
        let mut figures: Vec<f64> = row.samples.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    Sample {
        p50: Duration::from_secs_f64(by(|sample| sample.p50.as_secs_f64())),
        p99: Duration::from_secs_f64(by(|sample| sample.p99.as_secs_f64())),
        per_second: by(|sample| sample.per_second),
    }
}

/// What is hoped of a figure.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// At most so many microseconds.
    Micros(f64),
    /// At most so many times the first row.
    Ratio(f64),
}

impl Goal {
    /// The goal, and whether it is met.
    pub(crate) fn judge(self, nanos: f64, ratio: f64) -> String {
        let (goal, is_met) = match self {
            Self::Micros(most) => (format!("≤ {most} µs"), nanos / 1e3 <= most),
            Self::Ratio(most) => (format!("≤ {most} ×"), ratio <= most),
        };
        format!("{goal} {}", if is_met { "met" } else { "MISSED" })
    }
}

/// One row of times: the median of each round, in nanoseconds.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) nanos: Vec<f64>,
    pub(crate) goals: Vec<Goal>,
}

/// Prints times with their spread over the rounds, ratios to the first row, and whether goals are met.
pub(crate) fn lines(title: &str, rows: &[Line]) {
    println!("{title}");
    println!("  {:<24} {:>10} {:>21}  {:>6}", "", "median µs", "rounds from … to", "×");
    let sorted = |row: &Line| {
        let mut nanos = row.nanos.clone();
        nanos.sort_by(f64::total_cmp);
        nanos
    };
    let base = rows.first().map(sorted).and_then(|nanos| nanos.get(nanos.len() / 2).copied());
    for row in rows {
        let nanos = sorted(row);
        let (Some(least), Some(most), Some(median)) = (nanos.first(), nanos.last(), nanos.get(nanos.len() / 2)) else {
            continue;
        };
        let ratio = base.map_or(1.0, |base| median / base);
        let goals: Vec<String> = row.goals.iter().map(|goal| goal.judge(*median, ratio)).collect();
        // Four digits or so of each.
        let digits = if *median < 1e3 { 3 } else { 1 };
        let (median, least, most) = (median / 1e3, least / 1e3, most / 1e3);
        let spread = format!("{least:.digits$} … {most:.digits$}");
        println!("  {:<24} {median:>10.digits$} {spread:>21}  {ratio:>6.2}  {}", row.name, goals.join("; "));
    }
    println!();
}

/// The median of some times.
pub(crate) fn median_time(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
