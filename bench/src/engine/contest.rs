//! Several engines doing the same, in interleaved rounds.

use anyhow::{Context as _, Result, ensure};

use crate::{
    engine::{
        Subject,
        job::{Job, Start},
    },
    report::{Goal, Line, lines},
};

/// How long one round of one entrant should take, in nanoseconds.
const ROUND_NANOS: u64 = 150_000_000;
/// The same for a smoke run.
const QUICK_NANOS: u64 = 10_000_000;
/// Most turns of a round.
const TURNS_MAX: u64 = 5_000;

/// Longest message about a row that failed: an answer can be 64 KiB.
const PROBLEM_CHARS_MAX: usize = 200;

/// One table.
pub(crate) struct Contest<'s> {
    title: String,
    rounds: usize,
    round_nanos: u64,
    unit: Option<(&'static str, u64)>,
    entrants: Vec<Entrant<'s>>,
}

/// One row: who does what.
pub(crate) struct Entrant<'s> {
    name: String,
    subject: &'s mut (dyn Subject + 'static),
    job: Job,
    goals: Vec<Goal>,
    /// The median of each round, in nanoseconds.
    medians: Vec<f64>,
    /// Why it takes no part any more.
    problem: Option<String>,
}

impl<'s> Entrant<'s> {
    pub(crate) fn new(name: impl Into<String>, subject: &'s mut (dyn Subject + 'static), job: Job) -> Self {
        Self { name: name.into(), subject, job, goals: Vec::new(), medians: Vec::new(), problem: None }
    }

    /// What is hoped of it; ratios are to the first entrant.
    pub(crate) fn goals(mut self, goals: Vec<Goal>) -> Self {
        self.goals = goals;
        self
    }

    fn turn(&mut self) -> Result<String> {
        let done = self.subject.run(&self.job).with_context(|| self.job.module.display().to_string())?;
        ensure!(done.error.is_none(), "{}", done.error.unwrap_or_default());
        let mut nanos = done.nanos;
        nanos.sort_unstable();
        self.medians.push(nanos[nanos.len() / 2] as f64);
        Ok(done.output)
    }

    /// Finds out how many turns a round should have, which also warms caches.
    fn calibrate(&mut self, round_nanos: u64) -> Result<String> {
        self.job.turns = if self.job.start == Start::Warm { 80 } else { 5 };
        let output = self.turn()?;
        let each = (self.medians[0] as u64).max(1);
        self.job.turns = usize::try_from((round_nanos / each).clamp(3, TURNS_MAX))?;
        self.medians.clear();
        Ok(output)
    }
}

impl<'s> Contest<'s> {
    pub(crate) fn new(title: String, rounds: usize, is_quick: bool) -> Self {
        let round_nanos = if is_quick { QUICK_NANOS } else { ROUND_NANOS };
        Self { title, rounds, round_nanos, unit: None, entrants: Vec::new() }
    }

    /// Shows times of one of `count` equal parts of a turn.
    pub(crate) fn per(mut self, what: &'static str, count: u64) -> Self {
        self.unit = Some((what, count));
        self
    }

    pub(crate) fn entrant(mut self, entrant: Entrant<'s>) -> Self {
        self.entrants.push(entrant);
        self
    }

    /// Measures by interleaved rounds. All must answer the same; one that fails is out, and the others go on.
    pub(crate) fn measure(&mut self) {
        let mut expected: Option<String> = None;
        for round in 0..=self.rounds {
            for entrant in self.entrants.iter_mut().filter(|entrant| entrant.problem.is_none()) {
                let answered = match round {
                    0 => entrant.calibrate(self.round_nanos),
                    _ => entrant.turn(),
                };
                match answered {
                    Ok(output) if *expected.get_or_insert_with(|| output.clone()) == output => {}
                    Ok(output) => entrant.problem = Some(format!("answers {output:?}, not {expected:?}")),
                    Err(error) => entrant.problem = Some(format!("{error:#}")),
                }
            }
        }
    }

    /// The median of the rounds of each entrant, in nanoseconds; 0 for one that failed.
    pub(crate) fn figures(&self) -> Vec<f64> {
        let figure = |entrant: &Entrant<'_>| entrant.problem.is_none().then(|| middle(&entrant.medians));
        self.entrants.iter().map(|entrant| figure(entrant).unwrap_or_default()).collect()
    }

    /// What went wrong, with whose name.
    pub(crate) fn problems(&self) -> Vec<String> {
        let problem = |entrant: &Entrant<'_>| {
            let problem: String = entrant.problem.as_ref()?.chars().take(PROBLEM_CHARS_MAX).collect();
            Some(format!("{}: {problem}", entrant.name))
        };
        self.entrants.iter().filter_map(problem).collect()
    }

    /// Measures, and prints the table. Says how many failed.
    pub(crate) fn run(mut self) -> usize {
        self.measure();
        let (what, count) = self.unit.unwrap_or(("", 1));
        let rows: Vec<Line> = self
            .entrants
            .iter()
            .filter(|entrant| entrant.problem.is_none())
            .map(|entrant| {
                let nanos = entrant.medians.iter().map(|nanos| nanos / count as f64).collect();
                Line { name: entrant.name.clone(), nanos, goals: entrant.goals.clone() }
            })
            .collect();
        let title = if what.is_empty() { self.title.clone() } else { format!("{}, each {what}", self.title) };
        lines(&title, &rows);
        let problems = self.problems();
        problems.iter().for_each(|problem| println!("  FAILED {problem}\n"));
        problems.len()
    }
}

/// The median.
pub(crate) fn middle(figures: &[f64]) -> f64 {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}
