use super::*;

/// A broker that runs in no role yet.
struct Starting;

impl Running for Starting {
    fn role(&self) -> Option<RunsAs> {
        None
    }

    fn set_lease(&mut self, _: i64) {}

    fn propose(&mut self, _: i64) -> Option<Proposal> {
        None
    }

    fn told_in_sync(&mut self, _: Members, _: bool) {}

    fn give_up(&mut self) {}

    fn can_write(&self) -> bool {
        true
    }

    fn in_sync(&self) -> BTreeSet<i64> {
        BTreeSet::new()
    }
}

const RULES: Rules = Rules {
    id: 1,
    timeout_ms: 1_000,
    patience_ms: 1_000,
    is_learner: false,
};

fn alone(epoch: i32, in_sync_epoch: i32) -> Told {
    Told {
        members: Members {
            ids: BTreeSet::from([1]),
            epoch: in_sync_epoch,
        },
        ..told(Some(1), epoch)
    }
}

/// What follows at `now_ms` from a heartbeat, and from what is told after it.
fn beats(decisions: &mut Decisions, told: &Told, now_ms: i64) -> Next {
    assert_eq!(decisions.beat(now_ms), Request::Beat);
    let asked = decisions.answered(Outcome::Beaten, &mut Starting, now_ms);
    assert_eq!(asked, Next::Ask(Request::Told));
    decisions.answered(Outcome::Told(told.clone()), &mut Starting, now_ms)
}

/// And from a registration after that.
fn registers(decisions: &mut Decisions, told: &Told, now_ms: i64) -> Next {
    let asked = decisions.answered(Outcome::Registered, &mut Starting, now_ms);
    assert_eq!(asked, Next::Ask(Request::Told));
    decisions.answered(Outcome::Told(told.clone()), &mut Starting, now_ms)
}

#[test]
fn a_master_that_starts_alone_registers_and_goes_on_when_its_set_has_another_epoch() {
    let mut decisions = Decisions::new(RULES);
    assert_eq!(beats(&mut decisions, &alone(3, 7), 0), Next::Ask(Request::Register));
    let fenced = alone(3, 8);
    assert_eq!(registers(&mut decisions, &fenced, 5), Next::Become(fenced.clone(), 950));
    // Its start takes long, and it is told again.
    assert_eq!(beats(&mut decisions, &fenced, 200), Next::Become(fenced, 1_150));
}

#[test]
fn under_controllers_that_do_not_fence_it_waits_until_nothing_can_be_on_its_way() {
    let mut decisions = Decisions::new(RULES);
    for now in [0, 200, MAY_BE_DONE_MS] {
        assert_eq!(beats(&mut decisions, &alone(3, 7), now), Next::Ask(Request::Register));
        assert_eq!(registers(&mut decisions, &alone(3, 7), now), Next::Rest);
    }
    let late = MAY_BE_DONE_MS + 1;
    assert_eq!(beats(&mut decisions, &alone(3, 7), late), Next::Become(alone(3, 7), late + 950));
}

#[test]
fn an_epoch_that_began_since_the_start_needs_no_fence() {
    let mut decisions = Decisions::new(RULES);
    assert_eq!(beats(&mut decisions, &told(Some(2), 3), 0), Next::Become(told(Some(2), 3), 950));
    assert_eq!(beats(&mut decisions, &alone(4, 8), 10), Next::Become(alone(4, 8), 960));
}

fn told(master: Option<i64>, epoch: i32) -> Told {
    Told {
        master: master.map(|id| (id, format!("h:{id}"))),
        epoch,
        members: Members::default(),
    }
}

#[test]
fn a_role_changes_with_a_newer_epoch_only() {
    let master = Some(RunsAs::Master { epoch: 3 });
    let slave = Some(RunsAs::Slave { epoch: 3 });
    let other = Some("h:2".to_owned());
    let start = |wanted| Change::StartAs(wanted);
    for (running, told, change) in [
        (None, told(Some(1), 3), start(Wanted::Master { epoch: 3 })),
        (None, told(Some(2), 3), start(Wanted::Slave { master: other.clone() })),
        (None, told(None, 3), Change::Stay),
        (master, told(Some(1), 3), Change::Stay),
        (master, told(Some(2), 2), Change::Stay),
        (master, told(None, 4), Change::Stay),
        (master, told(Some(1), 5), start(Wanted::Master { epoch: 5 })),
        (master, told(Some(2), 4), start(Wanted::Slave { master: other.clone() })),
        (slave, told(Some(2), 4), Change::Follow(other)),
        (slave, told(None, 4), Change::Stay),
        (slave, told(Some(1), 4), start(Wanted::Master { epoch: 4 })),
        (slave, told(Some(1), 2), Change::Stay),
    ] {
        assert_eq!(change_of_role(1, running, &told), change, "{running:?} {told:?}");
    }
}

#[test]
fn after_a_power_failure_no_epoch_is_resumed_and_no_member_of_the_set_is_heard() {
    let mut silence = Silence {
        id: 1,
        epoch: 3,
        has_lost: true,
        forgotten_ms: 60,
        until_ms: 100,
        in_sync_until_ms: 200,
        beat_ms: 100,
        beat_every_ms: 50,
    };
    let member = |told: Told| Told {
        members: Members {
            ids: BTreeSet::from([1, 2]),
            epoch: 1,
        },
        ..told
    };
    assert!(!silence.is_over(&told(Some(1), 3), 1_000) && silence.is_over(&told(Some(1), 5), 0));
    assert!(!silence.is_over(&told(None, 4), 99) && silence.is_over(&told(None, 4), 100));
    assert!(!silence.is_over(&told(Some(2), 4), 59) && silence.is_over(&told(Some(2), 4), 60));
    assert!(!silence.is_over(&member(told(Some(2), 4)), 199));
    assert!(silence.is_over(&member(told(Some(2), 4)), 200));
    let beats = [99, 100, 149, 150].map(|now| silence.must_beat(&told(Some(1), 3), now));
    assert_eq!(beats, [false, true, false, true]);
    assert!(!silence.must_beat(&told(Some(2), 4), 1_000));
    let durable = Silence {
        has_lost: false,
        ..silence
    };
    assert!(durable.is_over(&member(told(Some(2), 4)), 0) && !durable.is_over(&told(Some(1), 3), 1_000));
}

/// From a heartbeat that is sent at 100 ms and answered late, until it becomes the master.
fn lease_after(answers: &[(Outcome, Option<Request>)]) -> i64 {
    let mut decisions = Decisions::new(RULES);
    assert_eq!(decisions.beat(100), Request::Beat);
    let mut now = 100;
    for (answer, asks) in answers {
        now += 200;
        match (decisions.answered(answer.clone(), &mut Starting, now), asks) {
            (Next::Ask(request), Some(expected)) => assert_eq!(request, *expected),
            (Next::Become(_, lease_until), None) => return lease_until,
            (next, _) => panic!("{next:?} after {answer:?}"),
        }
    }
    panic!("it is no master")
}

#[test]
fn the_first_lease_counts_from_the_heartbeat_however_late_the_answers_are() {
    let beaten = (Outcome::Beaten, Some(Request::Told));
    let elected = [
        beaten.clone(),
        (Outcome::Told(told(None, 3)), Some(Request::Elect)),
        (Outcome::Told(alone(4, 8)), None),
    ];
    let fenced = [
        beaten.clone(),
        (Outcome::Told(alone(4, 8)), Some(Request::Register)),
        (Outcome::Registered, Some(Request::Told)),
        (Outcome::Told(alone(4, 9)), None),
    ];
    let members = Members {
        ids: BTreeSet::from([1, 2]),
        epoch: 8,
    };
    let alter = Request::Alter {
        epoch: 4,
        members: BTreeSet::from([1]),
        replaces: 8,
    };
    let with_others = Told {
        members,
        ..told(Some(1), 4)
    };
    let resumed = [
        beaten,
        (Outcome::Told(with_others), Some(alter)),
        (Outcome::Members(alone(4, 9).members), None),
    ];
    let leases = [lease_after(&elected), lease_after(&fenced), lease_after(&resumed)];
    assert_eq!(leases, [1_050; 3], "a timeout of 1,000 ms, less a margin, after 100 ms");
}
