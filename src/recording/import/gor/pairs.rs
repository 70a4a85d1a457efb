//! Joins requests and their original responses, which share an ID and stand near each other, in either order. A request waits for its
//! response until [`WAITING`] others stand behind it.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::super::reorder::HELD_BYTES;
use super::Head;
use super::message::Response;
use crate::recording::Request;

/// How many requests wait for their responses, and how many responses for their requests.
pub(super) const WAITING: usize = 4096;

/// Requests and responses that may still find each other.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    /// In the order of the file; numbered from `first`.
    requests: VecDeque<(Box<[u8]>, Request)>,
    first: u64,
    bytes: usize,
    /// The unanswered ones of each ID, which some versions give to more than one.
    unanswered: HashMap<Box<[u8]>, VecDeque<u64>>,
    /// Responses that came first.
    early: HashMap<Box<[u8]>, (Noted, Response)>,
    early_order: VecDeque<Box<[u8]>>,
}

/// When a response was seen.
#[derive(Clone, Copy, Debug)]
struct Noted {
    at: i64,
    lasted: i64,
}

impl Pairs {
    pub(super) fn push_request(&mut self, id: &[u8], mut request: Request) {
        if let Some((noted, response)) = self.early.remove(id) {
            answer(&mut request, noted, response);
        } else {
            self.unanswered.entry(id.into()).or_default().push_back(self.first + self.requests.len() as u64);
        }
        self.bytes += request.memory();
        self.requests.push_back((id.into(), request));
    }

    pub(super) fn push_response(&mut self, head: Head<'_>, response: Response) {
        let noted = Noted { at: head.at.0, lasted: head.lasted };
        if let Some(number) = self.unanswered.get_mut(head.id).and_then(VecDeque::pop_front) {
            if self.unanswered.get(head.id).is_some_and(VecDeque::is_empty) {
                self.unanswered.remove(head.id);
            }
            let place = usize::try_from(number - self.first).expect("invariant: no more than are held");
            answer(&mut self.requests[place].1, noted, response);
            return;
        }
        if self.early_order.len() >= WAITING
            && let Some(oldest) = self.early_order.pop_front()
        {
            self.early.remove(&oldest);
        }
        self.early_order.push_back(head.id.into());
        self.early.insert(head.id.into(), (noted, response));
    }

    /// The oldest request, if more than `waiting` are held or they take too much memory.
    pub(super) fn pop(&mut self, waiting: usize) -> Option<Request> {
        if self.requests.len() <= waiting && self.bytes <= HELD_BYTES {
            return None;
        }
        let (id, request) = self.requests.pop_front()?;
        self.bytes -= request.memory();
        if let Some(numbers) = self.unanswered.get_mut(&id)
            && numbers.front() == Some(&self.first)
        {
            numbers.pop_front();
            if numbers.is_empty() {
                self.unanswered.remove(&id);
            }
        }
        self.first += 1;
        Some(request)
    }
}

#[cfg(test)]
impl Pairs {
    /// Whether nothing is kept beyond what may wait.
    pub(super) fn is_bounded(&self) -> bool {
        let lengths = [self.requests.len(), self.unanswered.len(), self.early.len(), self.early_order.len()];
        lengths.iter().all(|length| *length <= WAITING)
    }
}

fn answer(request: &mut Request, noted: Noted, response: Response) {
    let took = noted.at.saturating_sub(request.at.0).saturating_add(noted.lasted);
    request.duration = u64::try_from(took).ok().map(Duration::from_nanos);
    request.status = response.status;
    let has_no_body = request.method.as_str() == "HEAD" || matches!(response.status, Some(204 | 304));
    let announced = response.announced.filter(|_| !has_no_body);
    request.response_bytes = Some(announced.unwrap_or(response.held));
}
