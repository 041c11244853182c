use std::time::Duration;

use account_service::command::Settings;

/// The settings of a run's services that are not drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) teller: Settings,
    /// Records younger than this stay in the log.
    pub(crate) log_window: Duration,
    /// How often the log is trimmed.
    pub(crate) trim_every: Duration,
    /// How often heads are compared, in runs that compare them.
    pub(crate) compare_every: Duration,
    /// How long the generation before the active one is kept.
    pub(crate) keep_previous: Duration,
}

impl Pace {
    /// For a schedule: memory so small and times so short that even with its few orders accounts are loaded, records
    /// trimmed, heads compared and generations discarded.
    pub(crate) const OF_A_SCHEDULE: Self = Self {
        teller: Settings { accounts_cached_max: 8, batches_at_once: 2 },
        log_window: Duration::from_secs(2),
        trim_every: Duration::from_secs(3),
        compare_every: Duration::from_secs(10),
        keep_previous: Duration::from_secs(20),
    };

    /// The defaults of a bank.
    pub(crate) fn of_the_bank() -> Self {
        Self {
            teller: Settings::default(),
            log_window: Duration::from_hours(24),
            trim_every: Duration::from_secs(10),
            compare_every: Duration::from_secs(30),
            keep_previous: Duration::from_hours(1),
        }
    }
}
