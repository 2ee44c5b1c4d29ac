import semver from 'semver';

const versions = ['1.2.3', '1.2.4-beta.2', '1.10.0', '2.0.0-rc.1+build', '0.9.9', 'v3.0.0'];

export default () => ({
  sorted: semver.sort([...versions]),
  satisfying: ['^1.2.0', '~1.2.3', '>=1.0.0 <2 || 3.x', '1.2.x', '*', '^1.2.4-beta.1'].map((range) => versions.filter((version) => semver.satisfies(version, range))),
  bumped: ['major', 'minor', 'patch', 'prerelease'].map((kind) => semver.inc('1.2.3-a.0', kind)),
  difference: semver.diff('1.2.3', '1.3.0-pre'),
  coerced: semver.coerce('release 42.6.7.9.3-alpha').version,
  simplified: semver.validRange('^1 || >=2.1 <3'),
  subset: semver.subset('~1.2.3', '^1.0.0'),
  invalid: semver.valid('1.2'),
});
