//! How fast logs are read and plans compiled.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tuningfork::recording::{Importer, JitterSeed, Recording, Request, Scrub, ScrubKey, Target, audit, read, write};
use tuningfork::replay::{Plan, PlanOptions, Reuse};

const LINES: u32 = 20_000;

/// A combined log of ordinary length: many paths, some queries, two user agents.
fn log() -> String {
    let line = |n: u32| {
        let (path, client, second) = (n % 1_500, n % 1_700, n / 50 % 60);
        let agent = if n.is_multiple_of(3) {
            "curl/8.5.0"
        } else {
            "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
        };
        format!(
            "10.{}.{}.7 - - [17/May/2025:10:05:{second:02} +0000] \"GET /articles/{path}/?page={}&token=t{n} HTTP/1.1\" 200 {} \
             \"https://example.org/articles/\" \"{agent}\"\n",
            client / 250,
            client % 250,
            n % 7,
            n * 37 % 90_000,
        )
    };
    (0..LINES).map(line).collect()
}

fn import(log: &str) -> Recording {
    let mut importer = Importer::new(ScrubKey([1; 16]), JitterSeed(1));
    importer.read(log.as_bytes()).expect("a good log");
    importer.finish().expect("a good log")
}

/// The requests of a log, each with its query or none of them.
fn requests(recording: &Recording, query: bool) -> Vec<Request> {
    let mut requests = recording.requests.clone();
    for request in requests.iter_mut().filter(|_| !query) {
        let (path, _) = request.target.as_str().split_once('?').expect("every line has a query");
        request.target = Target::new(path).expect("a path is a target");
    }
    requests
}

fn scrub(requests: &mut [Request]) {
    let scrub = Scrub::new(ScrubKey([1; 16]));
    for request in requests {
        scrub.request(request);
    }
}

fn bench(criterion: &mut Criterion) {
    let log = log();
    let recording = import(&log);
    let mut lines = Vec::new();
    write(&recording, &mut lines).expect("memory takes every write");
    let options = PlanOptions { host: "example.org".into(), reuse: Reuse::KeepAlive };

    let mut group = criterion.benchmark_group("recording");
    group.throughput(Throughput::Elements(u64::from(LINES))).sample_size(20);
    group.bench_function("import a combined log", |bencher| bencher.iter(|| import(&log)));
    group.bench_function("read JSON Lines", |bencher| bencher.iter(|| read(lines.as_slice())));
    group.bench_function("audit JSON Lines", |bencher| bencher.iter(|| audit(lines.as_slice())));
    let mut plain = requests(&recording, false);
    group.bench_function("scrub requests without query", |bencher| bencher.iter(|| scrub(&mut plain)));
    let mut secret = requests(&recording, true);
    group.bench_function("scrub requests with a token", |bencher| bencher.iter(|| scrub(&mut secret)));
    group.bench_function("compile a plan", |bencher| {
        bencher.iter(|| Plan::compile(&recording, &options));
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
