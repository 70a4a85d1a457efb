//! How fast the end of a response is found.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tuningfork::replay::{Response, ResponseBody};

const HEAD: &str =
    "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sat, 17 May 2025 10:05:03 GMT\r\nContent-Type: text/html\r\n";

fn bench(criterion: &mut Criterion) {
    let body = "x".repeat(10_000);
    let responses = [
        ("small", format!("{HEAD}Content-Length: 5\r\n\r\nhello")),
        ("10 kB", format!("{HEAD}Content-Length: 10000\r\n\r\n{body}")),
        ("10 kB in 1 kB chunks", {
            let chunk = format!("400\r\n{}\r\n", &body[..1_024]);
            format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(10))
        }),
    ];
    let mut group = criterion.benchmark_group("http1");
    for (name, text) in &responses {
        let mut response = Response::new(1 << 20);
        group.throughput(Throughput::Elements(1));
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                response.begin(ResponseBody::Possible);
                response.feed(black_box(text.as_bytes()))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
