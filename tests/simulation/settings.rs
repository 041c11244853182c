//! The settings of the tests: the only place that reads the environment.

/// How many schedules a plain `cargo test` runs; `scripts/test` asks for more.
const SEEDS_DEFAULT: u64 = 300;

/// The variables of the simulation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// `BANK_SIMULATIONS`: how many schedules are run.
    pub(crate) seeds: u64,
    /// `BANK_SIMULATION_FIRST`: the first seed.
    pub(crate) first: u64,
    /// `BANK_SIMULATION_SEED`: this seed alone, with its trace and its log.
    pub(crate) only: Option<u64>,
}

impl Settings {
    /// Reads the environment.
    ///
    /// # Panics
    /// When a variable is not a number.
    pub(crate) fn read() -> Self {
        Self {
            seeds: number("BANK_SIMULATIONS").unwrap_or(SEEDS_DEFAULT),
            first: number("BANK_SIMULATION_FIRST").unwrap_or(0),
            only: number("BANK_SIMULATION_SEED"),
        }
    }
}

fn number(name: &str) -> Option<u64> {
    #[expect(clippy::disallowed_methods, reason = "this is the place that reads the settings of the simulation")]
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")))
}
