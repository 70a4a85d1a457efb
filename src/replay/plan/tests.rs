use super::*;
use crate::recording::{Header, read};
use crate::replay::ResponseBody;
use crate::replay::{Methods, Rewrite};

fn compile(lines: &[&str], reuse: Reuse) -> Result<Plan, PlanError> {
    let recording = read(lines.join("\n").as_bytes()).unwrap();
    Plan::compile(&recording, &PlanOptions::new("app.test", reuse))
}

fn texts(plan: &Plan) -> Vec<String> {
    plan.requests().iter().map(|request| String::from_utf8(plan.bytes(request).to_vec()).unwrap()).collect()
}

#[test]
fn requests_are_sorted_and_complete() {
    let plan = compile(
        &[
            r#"{"t":12.5,"m":"HEAD","u":"/late","s":404}"#,
            r#"{"t":10,"c":"2","n":2,"m":"GET","u":"/c"}"#,
            r#"{"t":10,"c":"2","n":1,"m":"GET","u":"/b"}"#,
            r#"{"t":9.5,"c":"1","m":"GET","u":"/a","h":[["accept","x"],["Connection","keep-alive"],["X-A","1"],["x-a","2"]]}"#,
        ],
        Reuse::PerRequest,
    )
    .unwrap();
    let texts = texts(&plan);
    assert_eq!(texts[0], "GET /a HTTP/1.1\r\nHost: app.test\r\naccept: x\r\nX-A: 1\r\nx-a: 2\r\nConnection: close\r\n\r\n");
    assert!(texts[1].starts_with("GET /b ") && texts[2].starts_with("GET /c ") && texts[3].starts_with("HEAD /late "));
    let last = &plan.requests()[3];
    assert_eq!((last.at(), last.recorded_status()), (Duration::from_secs(3), Some(404)));
    assert_eq!(last.response_body(), ResponseBody::Never);
    assert_eq!(plan.period(), Duration::from_secs(4));
}

#[test]
fn a_recorded_host_is_kept_and_a_body_measured() {
    let line = r#"{"t":1,"m":"GET","u":"/","h":[["HOST","a.example"],["Host","b"],["content-length","99"]],"b":"eHl6"}"#;
    let plan = compile(&[line], Reuse::KeepAlive).unwrap();
    assert_eq!(texts(&plan)[0], "GET / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nxyz");
}

#[test]
fn equal_requests_are_stored_once() {
    let lines = [r#"{"t":1,"m":"GET","u":"/a"}"#, r#"{"t":2,"m":"GET","u":"/b"}"#, r#"{"t":3,"m":"GET","u":"/a"}"#];
    let plan = compile(&lines, Reuse::KeepAlive).unwrap();
    let [first, second, third] = plan.requests() else { panic!("three") };
    assert_eq!(plan.bytes(first), plan.bytes(third));
    assert_eq!(plan.arena.len(), plan.bytes(first).len() + plan.bytes(second).len());
}

#[test]
fn only_harmless_requests_are_planned() {
    let lines = [
        r#"{"t":1,"m":"POST","u":"/a"}"#,
        r#"{"t":1,"m":"get","u":"/a"}"#,
        r#"{"t":1,"m":"CONNECT","u":"a:443"}"#,
        r#"{"t":1,"m":"GET","u":"/ws","h":[["Upgrade","websocket"]]}"#,
        r#"{"t":1,"m":"OPTIONS","u":"*"}"#,
    ];
    let plan = compile(&lines, Reuse::KeepAlive).unwrap();
    assert_eq!(plan.requests().len(), 1);
    assert_eq!(plan.dropped(), Dropped { unsafe_method: 2, upgrade: 2 });

    let dropped = Dropped { unsafe_method: 1, upgrade: 0 };
    let refused = vec![Method::new("POST").unwrap()];
    let error = compile(&lines[..1], Reuse::KeepAlive).unwrap_err();
    assert_eq!(error, PlanError::Empty { recorded: 1, dropped, refused });
    assert!(error.to_string().ends_with("`tuningfork replay --allow POST` sends them"), "{error}");
}

#[test]
fn a_host_cannot_smuggle_headers() {
    let recording = read(br#"{"t":1,"m":"GET","u":"/a"}"#.as_slice()).unwrap();
    for host in ["", "a b", "a\r\nX: y"] {
        let options = PlanOptions::new(host, Reuse::KeepAlive);
        assert_eq!(Plan::compile(&recording, &options).unwrap_err(), PlanError::Host(host.into()));
    }
}

#[test]
fn methods_are_allowed_by_name() {
    let lines = [r#"{"t":1,"m":"POST","u":"/a"}"#, r#"{"t":1,"m":"DELETE","u":"/a"}"#, r#"{"t":1,"m":"CONNECT","u":"a:443"}"#];
    let recording = read(lines.join("\n").as_bytes()).unwrap();
    let allowing = |names: &[&str]| {
        let methods = Methods::allow(names.iter().copied()).unwrap();
        Plan::compile(&recording, &PlanOptions { methods, ..PlanOptions::new("a", Reuse::KeepAlive) })
    };
    let plan = allowing(&["post", "CONNECT"]).unwrap();
    assert!(texts(&plan)[0].starts_with("POST /a "));
    assert_eq!((plan.requests().len(), plan.dropped()), (1, Dropped { unsafe_method: 1, upgrade: 1 }));

    let refusal = allowing(&["PUT"]).unwrap_err().to_string();
    assert!(refusal.ends_with("`tuningfork replay --allow POST,DELETE` sends them"), "{refusal}");
    assert_eq!(Methods::allow(["PO ST"]), Err(PlanError::Method("PO ST".into())));
}

#[test]
fn a_computed_header_cannot_be_set() {
    let recording = read(br#"{"t":1,"m":"GET","u":"/a"}"#.as_slice()).unwrap();
    let rewrite = Rewrite { set: vec![Header::new("content-length", "1").unwrap()], remove: vec![] };
    let options = PlanOptions { rewrite, ..PlanOptions::new("a", Reuse::KeepAlive) };
    assert_eq!(Plan::compile(&recording, &options).unwrap_err(), PlanError::Computed("content-length".into()));
}

#[test]
fn sessions_and_what_is_known_of_a_request() {
    let plan = compile(
        &[
            r#"{"t":1,"c":"a","n":1,"m":"GET","u":"/","d":0.5,"rb":7,"h":[["Cookie","x=1"]]}"#,
            r#"{"t":2,"m":"GET","u":"/"}"#,
            r#"{"t":3,"c":"a","n":2,"m":"POST","u":"/","rb":1}"#,
            r#"{"t":4,"c":"a","n":3,"m":"GET","u":"/","rb":4294967296}"#,
            r#"{"t":5,"c":"b","n":9,"m":"GET","u":"/"}"#,
        ],
        Reuse::KeepAlive,
    )
    .unwrap();
    assert_eq!(plan.firsts, [0, 3]);
    assert_eq!(plan.requests().iter().map(PlannedRequest::session).collect::<Vec<_>>(), [Some(0), None, Some(0), Some(1)]);
    assert_eq!([0, 1, 2, 3].map(|index| plan.next_in_session(index)), [Some(2), None, None, None]);
    assert_eq!([0, 1, 2, 3].map(|index| plan.ends_session(index)), [false, true, true, true]);
    assert_eq!([0, 1, 2, 3, 4].map(|from| plan.next_opening(from)), [Some(0), Some(1), Some(3), Some(3), None]);
    // The one that was not sent between them counts as thinking.
    assert_eq!(plan.think(2), Duration::from_millis(2_500));
    assert_eq!([0, 1, 2].map(|index| plan.recorded_length(index)), [Some(7), None, None]);
    let cookie = plan.cookie(0).map(|range| &plan.bytes(&plan.requests()[0])[range]);
    assert_eq!((cookie, plan.cookie(1)), (Some(b"x=1".as_slice()), None));
}

#[test]
fn a_request_takes_forty_bytes() {
    assert_eq!(size_of::<PlannedRequest>(), 40);
}
