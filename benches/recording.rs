//! How fast logs are read and plans compiled.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tuningfork::recording::{InputFormat, JitterSeed, Recording, Request, Scrub, ScrubKey, Target, audit, import, read};
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

/// The same traffic in the log format we recommend.
fn nginx_json() -> String {
    let line = |n: u32| {
        let (second, millis) = (1_747_476_300 + n / 50, n % 50 * 20);
        format!(
            "{{\"te\":{second}.{millis:03},\"d\":0.0{:02},\"c\":\"41.{}\",\"n\":{},\"p\":\"HTTP/1.1\",\"m\":\"GET\",\"u\":\"/articles/{}/?page={}\",\
             \"s\":200,\"rb\":{},\"h\":[[\"Host\",\"example.org\"],[\"User-Agent\",\"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) \
             Gecko/20100101 Firefox/128.0\"],[\"Accept\",\"*/*\"],[\"Content-Type\",\"\"],[\"Cookie\",\"sessionid=abcdef{n:08}\"]],\"bt\":\"\"}}\n",
            n % 90,
            n % 1_700,
            n / 1_700 + 1,
            n % 1_500,
            n % 7,
            n * 37 % 90_000,
        )
    };
    (0..LINES).map(line).collect()
}

/// The same traffic as GoReplay keeps it, with responses.
fn gor() -> String {
    let separator = "\n\u{1f435}\u{1f648}\u{1f649}\n";
    let record = |n: u32| {
        let (at, path) = (1_747_476_300_000_000_000_u64 + u64::from(n) * 20_000_000, n % 1_500);
        let id = format!("{:04x}1f900a000001{n:08x}", n % 1_700);
        let request =
            format!("GET /articles/{path}/ HTTP/1.1\r\nHost: example.org\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n");
        let response = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        format!("1 {id} {at} 0\n{request}{separator}2 {id} {} 100000\n{response}{separator}", at + 3_000_000)
    };
    (0..LINES).map(record).collect()
}

fn imported(input: &str) -> Vec<u8> {
    let output = Vec::with_capacity(input.len() * 2);
    let (_, imported) =
        import(input.as_bytes(), &InputFormat::Auto, output, Scrub::new(ScrubKey([1; 16])), JitterSeed(1)).expect("a good log");
    imported.output
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
    let (json, gor) = (nginx_json(), gor());
    let lines = imported(&log);
    let recording = read(lines.as_slice()).expect("a good recording");
    let options = PlanOptions::new("example.org", Reuse::KeepAlive);

    let mut group = criterion.benchmark_group("recording");
    group.throughput(Throughput::Elements(u64::from(LINES))).sample_size(20);
    group.bench_function("import a combined log", |bencher| bencher.iter(|| imported(&log)));
    group.bench_function("import nginx's JSON", |bencher| bencher.iter(|| imported(&json)));
    group.bench_function("import GoReplay's pairs", |bencher| bencher.iter(|| imported(&gor)));
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
