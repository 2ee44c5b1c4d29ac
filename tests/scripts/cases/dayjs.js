import dayjs from 'dayjs';
import 'dayjs/locale/de.js';
import duration from 'dayjs/plugin/duration.js';
import isoWeek from 'dayjs/plugin/isoWeek.js';
import relativeTime from 'dayjs/plugin/relativeTime.js';
import utc from 'dayjs/plugin/utc.js';

dayjs.extend(utc);
dayjs.extend(isoWeek);
dayjs.extend(duration);
dayjs.extend(relativeTime);

export default () => {
  const day = dayjs.utc('2024-02-29T23:30:00.123Z');
  return {
    formats: ['YYYY-MM-DD HH:mm:ss.SSS', 'dddd, D MMMM YYYY', '[Q]Q', 'hh:mm A Z'].map((format) => day.format(format)),
    german: day.locale('de').format('dddd, D. MMMM YYYY'),
    later: day.add(1, 'year').add(1, 'month').toISOString(),
    ends: ['year', 'month', 'week', 'day'].map((unit) => day.endOf(unit).toISOString()),
    difference: day.diff(dayjs.utc('2020-01-01'), 'month', true),
    isoWeek: day.isoWeek(),
    relative: day.from(dayjs.utc('2024-03-05')),
    duration: dayjs.duration({ hours: 26, minutes: 3 }).toISOString(),
    invalid: dayjs('nonsense').isValid(),
  };
};
