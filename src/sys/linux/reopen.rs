//! Has log files opened anew: our own, and those of Python workers. Does not wait for the file system that these are on.

use rustix::process::Signal;

use super::Linux;
use crate::config::App;
use crate::sys::errand::Errand;

/// The thread's name in `ps -L`.
const THREAD: &str = "log-files";

impl Linux<'_> {
    pub(super) fn reopen_logs(&mut self) {
        if let Some(log) = &self.around.log {
            log.reopen();
        }
        if self.log_files.is_some() {
            self.log_files_again = true;
        } else {
            self.make_log_files();
        }
    }

    /// Makes the files before anybody opens them, as Gunicorn's master does.
    fn make_log_files(&mut self) {
        let origins = self.generations.with_log_files();
        if origins.is_empty() {
            return self.workers_reopen_logs();
        }
        match Errand::start(THREAD, move || origins.iter().for_each(|origin| origin.make_log_files())) {
            Ok(errand) => self.log_files = Some(errand),
            Err(error) => {
                tracing::warn!(%error, "log files of the workers cannot be made");
                self.workers_reopen_logs();
            }
        }
    }

    pub(super) fn hear_of_log_files(&mut self) {
        if self.log_files.as_ref().is_some_and(Errand::is_done) {
            self.log_files = None;
            self.workers_reopen_logs();
            if std::mem::take(&mut self.log_files_again) {
                self.make_log_files();
            }
        }
    }

    /// Gunicorn's workers reopen their files on USR1; what another program does on it, nobody knows.
    fn workers_reopen_logs(&self) {
        for child in self.children.all() {
            if matches!(self.config(child.generation).map(|config| &config.app), Some(App::Python(_))) {
                child.signal(&[Signal::USR1]);
            }
        }
        self.generations.reopen_logs();
    }
}
