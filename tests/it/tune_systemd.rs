//! `tuningfork tune` as a transient unit of a real systemd: what the unit may use is all there is for it.

use std::fs;

use serde_json::Value;

use crate::support::systemd_box::SystemdBox;

/// Of the service that is installed there and not started.
const CONFIG: &str = r#"
[app]
kind = "command"
command = ["true"]
[listen]
address = "127.0.0.1:8000"
"#;

/// `Type=oneshot` lets systemd-run wait for the end. Which of the limits the kernel can keep depends on the controllers it has:
/// an affinity always, a quota with the cpu controller, which says so in `cpu.max`.
const UNIT: &str = "systemd-run --quiet --unit=study -p Type=oneshot -p RemainAfterExit=yes -p StateDirectory=study \
     -p CPUAffinity=0 -p AllowedCPUs=0 -p CPUQuota=50%";
const STUDY: &str = r#"own=/sys/fs/cgroup$(sed -n s,^0::,,p /proc/self/cgroup)
cat "$own/cpu.max" >/var/lib/study/cpu.max 2>/dev/null
exec /usr/local/bin/tuningfork tune --demo --budget 12s --journal /var/lib/study/journal.jsonl --json /var/lib/study/result.json"#;

fn read(boxed: &SystemdBox, name: &str) -> String {
    fs::read_to_string(boxed.path(&format!("/var/lib/study/{name}"))).unwrap_or_default()
}

/// Cores' worth of CPU time, by `cpu.max`: "50000 100000", or "max 100000".
fn quota(text: &str) -> Option<f64> {
    let (most, period) = text.trim().split_once(' ')?;
    Some(most.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
}

#[test]
fn a_transient_unit_is_tuned_as_what_it_may_use() {
    let Some(boxed) = SystemdBox::boot(CONFIG, "") else { return };
    fs::write(boxed.path("/run/study.sh"), STUDY).expect("write a script");
    boxed.must(&format!("{UNIT} sh /run/study.sh || {{ journalctl --no-pager -o cat -u study; exit 1; }}"));
    let (journal, quota) = (read(&boxed, "journal.jsonl"), quota(&read(&boxed, "cpu.max")));
    let lines: Vec<Value> = journal.lines().map(|line| serde_json::from_str(line).expect("a line of the journal")).collect();
    let space = &lines[0]["space"];
    assert_eq!((&space["cores"], space["quota"].as_f64()), (&1.into(), quota), "{}", lines[0]);
    let most = quota.unwrap_or(1.0);
    let found: Vec<&Value> =
        lines[1..].iter().map(|trial| &trial["outcome"]["measured"]).filter(|found| !found.is_null()).collect();
    assert!(!found.is_empty(), "{journal}");
    for found in found {
        let cores: Vec<&Value> = found["cores"].as_array().expect("cores").iter().map(|core| &core["cpu"]).collect();
        assert_eq!(cores, [&Value::from(0)], "{found}");
        assert!(found["workers_cpu"].as_f64().is_some_and(|used| used < 1.1 * most), "{found}");
    }
    let report: Value = serde_json::from_str(&read(&boxed, "result.json")).expect("the result");
    assert_eq!((&report["cores"], &report["baseline"]["workers"]), (&1.into(), &3.into()), "2 x 1 + 1");
    assert!(!report["recommended"].is_null(), "{report}");
}
