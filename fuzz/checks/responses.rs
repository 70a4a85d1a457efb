//! The framing of responses.

use tuningfork::replay::{Answer, FramingError, Progress, Response, ResponseBody};

/// Where a response ends does not depend on how it comes, and the next one is read as if it were the first.
pub(super) fn http1(input: &[u8]) {
    let Some(([asked, cuts @ ..], bytes)) = input.split_first_chunk::<4>() else { return };
    let body = if asked % 2 == 0 { ResponseBody::Possible } else { ResponseBody::Never };
    let mut response = Response::new(1 << 16);
    let whole = framed(&mut response, body, &[bytes]);
    let mut cuts = cuts.map(|cut| bytes.len() * usize::from(cut) / 255);
    cuts.sort_unstable();
    let pieces = [&bytes[..cuts[0]], &bytes[cuts[0]..cuts[1]], &bytes[cuts[1]..cuts[2]], &bytes[cuts[2]..]];
    assert_eq!(framed(&mut response, body, &pieces), whole, "in four pieces");
    let every: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(framed(&mut response, body, &every), whole, "byte by byte");
    response.begin(ResponseBody::Possible);
    let next = response.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(next, Ok(Progress::Complete(Answer { status: 200, content: 2, reusable: true })));
}

/// What became of a response whose connection ended after `pieces`.
fn framed(response: &mut Response, body: ResponseBody, pieces: &[&[u8]]) -> Result<Option<Answer>, FramingError> {
    response.begin(body);
    for piece in pieces {
        response.feed(piece)?;
    }
    Ok(response.finish())
}
