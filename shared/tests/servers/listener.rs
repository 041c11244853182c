//! What is logged on the thread of a test.

use std::io;
use std::sync::{Arc, Mutex, Once, PoisonError};

use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

static EVERYBODY: Once = Once::new();

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Listens from its creation until it is dropped.
pub(crate) struct Listener {
    lines: Lines,
    _listening: DefaultGuard,
}

impl Listener {
    pub(crate) fn new(level: tracing::Level) -> Self {
        // A callsite that is first reached while nothing listens to it is treated as disabled for good. So a global
        // listener takes everything, on all threads, and drops it.
        EVERYBODY.call_once(|| {
            tracing::subscriber::set_global_default(tracing_subscriber::registry())
                .expect("nobody else listens to all");
        });
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt().with_max_level(level).with_ansi(false).with_writer(lines.clone());
        Self { _listening: tracing::subscriber::set_default(subscriber.finish()), lines }
    }

    /// Every line that was heard.
    pub(crate) fn heard(&self) -> String {
        tracing::error!("listening");
        let heard = self.lines.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut heard = String::from_utf8(heard).expect("logs are text");
        let own = heard.rfind('\n').and_then(|end| heard[..end].rfind('\n')).map_or(0, |start| start + 1);
        assert!(heard[own..].contains("listening"), "nothing was heard");
        heard.truncate(own);
        heard
    }
}
