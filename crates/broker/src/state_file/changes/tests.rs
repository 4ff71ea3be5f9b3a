use super::*;
use crate::state_file::{SavedTable, StateFile, Table, Versioned, VersionedFile, pretty};
use parking_lot::Mutex;
use proptest::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;
use store::disk::simulated::{Fault, Lasts, SimulatedDisk};

const TABLE: Table = Table {
    name: "numbers.json",
    holds: "numbers",
    without: "nothing",
    is_made_again: false,
    check: |_| Ok(()),
};

/// A large table: numbers by name, and the version.
#[derive(Default)]
struct Numbers(Mutex<(Content, Unsaved)>);

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, Deserialize)]
struct Content {
    at: BTreeMap<String, u64>,
    numbers: BTreeMap<String, u64>,
    filling: BTreeMap<String, String>,
}

impl Content {
    fn version(&self) -> u64 {
        self.at.get("version").copied().unwrap_or(0)
    }
}

impl Numbers {
    fn large() -> Self {
        let numbers = Self::default();
        numbers.0.lock().0.filling.insert("x".to_owned(), "x".repeat(LARGE));
        numbers.set("first", Some(0));
        numbers
    }

    fn set(&self, name: &str, number: Option<u64>) {
        let (content, unsaved) = &mut *self.0.lock();
        match number {
            Some(number) => content.numbers.insert(name.to_owned(), number),
            None => content.numbers.remove(name),
        };
        unsaved.add(name);
        *content.at.entry("version".to_owned()).or_default() += 1;
    }

    fn now(&self) -> Content {
        self.0.lock().0.clone()
    }
}

impl Versioned for Numbers {
    type Version = u64;

    fn load(&self, file: &StateFile) -> io::Result<()> {
        let found = file.load(|content: &[u8]| serde_json::from_slice::<Content>(content))?;
        self.0.lock().0 = found.unwrap_or_default();
        Ok(())
    }

    fn version(&self) -> u64 {
        self.now().version()
    }

    fn content(&self) -> (u64, Vec<u8>) {
        let (content, unsaved) = &mut *self.0.lock();
        unsaved.take();
        (content.version(), pretty(content))
    }

    fn take_changes(&self) -> Option<(u64, Vec<u8>)> {
        let (content, unsaved) = &mut *self.0.lock();
        let names = unsaved.take()?;
        let numbers: BTreeMap<_, _> = names.iter().map(|name| (name, content.numbers.get(&**name))).collect();
        Some((
            content.version(),
            serde_json::json!({"at": content.at, "numbers": numbers}).to_string().into_bytes(),
        ))
    }
}

fn saved_in(disk: &SimulatedDisk, numbers: Arc<Numbers>) -> VersionedFile<Numbers> {
    VersionedFile::new(numbers, StateFile::new(Arc::new(disk.clone()), Path::new("/s"), TABLE, &[]))
}

fn loaded(disk: &SimulatedDisk) -> Content {
    let numbers = Arc::new(Numbers::default());
    saved_in(disk, Arc::clone(&numbers)).load().unwrap();
    numbers.now()
}

fn file() -> &'static Path {
    Path::new("/s/config/numbers.json")
}

#[test]
fn a_change_of_a_large_table_costs_what_it_has() {
    let disk = SimulatedDisk::new(1);
    let numbers = Arc::new(Numbers::large());
    let saved = saved_in(&disk, Arc::clone(&numbers));
    saved.save_changes().unwrap();
    let whole = disk.read(file()).unwrap();
    for n in 0..100 {
        numbers.set(&format!("n{n}"), Some(n));
        saved.save_changes().unwrap();
        assert_eq!(loaded(&disk), numbers.now());
    }
    assert_eq!(disk.read(file()).unwrap(), whole, "the table was not written again");
    assert!(disk.read(&path_of(file())).unwrap().len() < 10_000);
    // Tools see them, too.
    assert!(
        String::from_utf8(read_with_changes(&disk, file()).unwrap())
            .unwrap()
            .contains("\"n99\":99")
    );
    // Later the whole table is written.
    saved.save().unwrap();
    assert!(!disk.exists(&path_of(file())).unwrap());
    assert_eq!(
        serde_json::from_slice::<Content>(&disk.read(file()).unwrap()).unwrap(),
        numbers.now()
    );
}

#[test]
fn half_of_the_table_in_changes_is_followed_by_the_whole_table() {
    let disk = SimulatedDisk::new(1);
    let numbers = Arc::new(Numbers::large());
    let saved = saved_in(&disk, Arc::clone(&numbers));
    let mut most = 0;
    for n in 0..8_000 {
        numbers.set(&format!("{n:->100}"), Some(n));
        saved.save_changes().unwrap();
        let len = if_exists(disk.read(&path_of(file()))).unwrap().unwrap_or_default().len();
        most = most.max(len);
        assert!(len * 2 <= disk.read(file()).unwrap().len() + 1_000);
    }
    assert!(most > LARGE / 3, "{most}");
    assert_eq!(loaded(&disk), numbers.now());
}

#[test]
fn a_small_table_is_always_written_whole() {
    let disk = SimulatedDisk::new(1);
    let numbers = Arc::new(Numbers::default());
    let saved = saved_in(&disk, Arc::clone(&numbers));
    for n in 0..10 {
        numbers.set("a", Some(n));
        saved.save_changes().unwrap();
        assert!(!disk.exists(&path_of(file())).unwrap());
    }
    assert_eq!(loaded(&disk), numbers.now());
}

#[test]
fn changes_of_an_older_content_are_none() {
    let disk = SimulatedDisk::new(1);
    let numbers = Arc::new(Numbers::large());
    let saved = saved_in(&disk, Arc::clone(&numbers));
    saved.save_changes().unwrap();
    numbers.set("a", Some(1));
    saved.save_changes().unwrap();
    // As Apache's broker does, which knows nothing of the changes.
    let text = String::from_utf8(disk.read(file()).unwrap())
        .unwrap()
        .replace("\"at\":{", "\"at\":{\"other\":7,");
    assert!(text.contains("other"));
    store::json_file::write(&disk, file(), text.as_bytes()).unwrap();
    assert_eq!((loaded(&disk).at.get("other"), loaded(&disk).numbers.len()), (Some(&7), 1));
}

#[test]
fn a_line_that_is_not_whole_ends_the_changes() {
    let content = b"{\"numbers\":{}}";
    let line = |change: &str| format!("{:08x} {change}\n", crc32fast::hash(change.as_bytes()));
    let (one, two) = (line("{\"numbers\":{\"a\":1}}"), line("{\"numbers\":{\"b\":2}}"));
    let with = |lines: &str| String::from_utf8(applied(content, Some((head(content) + lines).as_bytes())).unwrap().into_owned()).unwrap();
    assert_eq!(with(&format!("{one}{two}")), "{\"numbers\":{\"a\":1,\"b\":2}}");
    for len in 0..two.len() {
        assert_eq!(with(&format!("{one}{}", &two[..len])), "{\"numbers\":{\"a\":1}}", "{len}");
    }
    assert_eq!(with(&format!("{one}{}{}", "0".repeat(40), two)), "{\"numbers\":{\"a\":1}}");
    for hostile in ["{\"numbers\":7}", "[1]", "7", "{\"numbers\":{\"a\":"] {
        assert!(
            applied(content, Some((head(content) + &line(hostile)).as_bytes())).is_err(),
            "{hostile}"
        );
    }
    assert!(applied(b"{\"numbers\":1}", Some((head(b"{\"numbers\":1}") + &one).as_bytes())).is_err());
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Set(u8, u64),
    Remove(u8),
    SaveChanges,
    SaveWhole,
    /// The disk refuses a later call, once.
    Fail(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_u8, any::<u64>()).prop_map(|(name, number)| Step::Set(name, number)),
        1 => (0..6_u8).prop_map(Step::Remove),
        5 => Just(Step::SaveChanges),
        1 => Just(Step::SaveWhole),
        1 => (1..9_u64).prop_map(Step::Fail),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever fails, and whenever the power is cut: what was saved is there, and nothing that never was.
    #[test]
    fn what_is_saved_survives_faults_and_power_cuts(steps in prop::collection::vec(step(), 1..40), cut in 1..200_u64, seed in any::<u64>()) {
        let disk = SimulatedDisk::new(seed);
        let numbers = Arc::new(Numbers::large());
        let saved = saved_in(&disk, Arc::clone(&numbers));
        saved.save().unwrap();
        disk.cut_at(disk.calls() + cut);
        let (mut states, mut acknowledged) = (vec![numbers.now()], 0);
        for step in steps {
            let outcome = match step {
                Step::Set(name, number) => {
                    numbers.set(&name.to_string(), Some(number));
                    states.push(numbers.now());
                    continue;
                }
                Step::Remove(name) => {
                    numbers.set(&name.to_string(), None);
                    states.push(numbers.now());
                    continue;
                }
                Step::Fail(at) => {
                    disk.fail_at(disk.calls() + at, Fault::NoSpace, Lasts::Once);
                    continue;
                }
                Step::SaveChanges => saved.save_changes(),
                Step::SaveWhole => saved.save(),
            };
            if outcome.is_ok() {
                acknowledged = states.len() - 1;
            }
        }
        let found = loaded(&disk.power_cut(seed));
        let version = usize::try_from(found.version()).unwrap();
        prop_assert!(version > acknowledged, "{version}, acknowledged {}", acknowledged + 1);
        prop_assert!(found == states[version - 1]);
    }
}
