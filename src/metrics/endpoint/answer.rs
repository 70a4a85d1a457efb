//! Decides the answer to one request. The page is kept for a moment, so that a flood of scrapes costs one scrape.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Method, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::metrics::{self, Exposition, Source};

/// The supervisor's loop counts as stuck when it has not turned for this long.
const LOOP_SILENCE: Duration = Duration::from_secs(10);
/// A page that took long to make is kept this many times as long, so that scrapes never take more than a fifth of a core.
const REST_FACTOR: u32 = 4;
const PLAIN: &str = "text/plain; charset=utf-8";

type Answer = Response<Full<Bytes>>;

/// Answers requests.
#[derive(Debug)]
pub(super) struct Desk<S> {
    exposition: Exposition<S>,
    permits: Arc<Semaphore>,
    fresh: Duration,
    kept: Option<Kept>,
}

/// The page made last.
#[derive(Debug)]
struct Kept {
    page: Bytes,
    until: Instant,
}

/// A page on its way to a client: the permit goes back when the last byte was written, or the connection is gone.
struct InFlight {
    page: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for InFlight {
    fn as_ref(&self) -> &[u8] {
        &self.page
    }
}

impl<S: Source> Desk<S> {
    /// Writes at most `in_flight` pages at a time, and makes one every `fresh` at most.
    pub(super) fn new(exposition: Exposition<S>, in_flight: usize, fresh: Duration) -> Self {
        Self { exposition, permits: Arc::new(Semaphore::new(in_flight)), fresh, kept: None }
    }

    /// The answer to one request; hyper leaves out the body where the method is HEAD.
    pub(super) fn answer(&mut self, method: &Method, path: &str) -> Answer {
        let answer: fn(&mut Self) -> Answer = match path {
            "/metrics" => Self::metrics,
            "/healthz" => Self::health,
            "/readyz" => Self::readiness,
            _ => return plain(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz"),
        };
        if method == Method::GET || method == Method::HEAD {
            answer(self)
        } else {
            let refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD");
            with(refusal, ALLOW, "GET, HEAD")
        }
    }

    fn metrics(&mut self) -> Answer {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            let refusal = plain(StatusCode::SERVICE_UNAVAILABLE, "too many scrapes at the same time");
            return with(refusal, RETRY_AFTER, "1");
        };
        match self.page() {
            Ok(page) => {
                let body = Bytes::from_owner(InFlight { page, _permit: permit });
                with(Response::new(Full::new(body)), CONTENT_TYPE, metrics::CONTENT_TYPE)
            }
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }

    fn page(&mut self) -> prometheus::Result<Bytes> {
        let begun = Instant::now();
        if let Some(kept) = self.kept.as_ref().filter(|kept| begun < kept.until) {
            return Ok(kept.page.clone());
        }
        let page = Bytes::from(self.exposition.render()?);
        let ended = Instant::now();
        self.kept = Some(Kept {
            page: page.clone(),
            until: ended + self.fresh.max(ended.duration_since(begun).saturating_mul(REST_FACTOR)),
        });
        Ok(page)
    }

    fn health(&mut self) -> Answer {
        let silence = self.exposition.pulse().since_turn;
        if silence <= LOOP_SILENCE {
            plain(StatusCode::OK, "alive")
        } else {
            let reason = format!("the supervisor's loop has not turned for {} seconds", silence.as_secs());
            plain(StatusCode::SERVICE_UNAVAILABLE, &reason)
        }
    }

    fn readiness(&mut self) -> Answer {
        let pulse = self.exposition.pulse();
        if pulse.stopping {
            plain(StatusCode::SERVICE_UNAVAILABLE, "the service is stopping")
        } else if pulse.ready == 0 {
            plain(StatusCode::SERVICE_UNAVAILABLE, "no worker is ready")
        } else {
            plain(StatusCode::OK, "ready")
        }
    }
}

/// One line of text.
fn plain(status: StatusCode, line: &str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(format!("{line}\n"))));
    *answer.status_mut() = status;
    with(answer, CONTENT_TYPE, PLAIN)
}

fn with(mut answer: Answer, name: HeaderName, value: &'static str) -> Answer {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
    answer
}
