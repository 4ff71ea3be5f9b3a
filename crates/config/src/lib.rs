//! Declared configuration: every key is written down once and everything else follows from that block.
//!
//! One [`declare!`] block has a key's name in Apache's files, its Rust type, its default, the allowed values and one sentence of
//! meaning. From it are derived the typed struct a role is started with, the reading of Apache's properties text, of the environment and
//! of flags, the dynamic update over the wire, the properties text of all values, and the table of `apogeemq config` and
//! `docs/configuration.md`. Nothing has to be kept in sync by hand.
//!
//! A value that is not allowed but has a clear meaning (a number beyond a bound, a value followed by a comment) counts as the value that
//! is meant, and a [`Note`] says so. Keys that contradict each other are adjusted, with a note, too. Values without a sensible meaning are
//! refused.
//!
//! Invariants:
//! * Order: default < file < changes kept from a run < environment < flags. Every value is checked, also one that a later source overrides.
//! * A refusal names the key, the value, its origin (such as file and line) and what is allowed. All refusals are reported, not only the first.
//! * A key declared [`Change::AtStart`] cannot be changed over the wire: nothing that moves a path or opens a port is live.
//!
//! Not here: the keys themselves (each role declares its own in its `settings` module) and command line parsing. Only the relations of the
//! keys that all servers share are here (`relation.rs`).

mod apache;
mod kept;
mod key;
mod live;
mod nearest;
pub mod properties;
mod relation;
mod replace;
pub mod shape;
mod sources;
mod table;

pub use apache::{MissingFeature, is_known_to_apache, missing_features, names_of_apache, without_effect};
pub use kept::Kept;
pub use key::{Change, Declared, Key, Note, Others, Settings, environment_name, given, properties_text};
pub use live::{Changed, Live, NEVER_OVER_THE_WIRE, UpdateRefused, Updated};
pub use nearest::nearest;
pub use relation::{ConnectionKeys, ConnectionSettings, Relation, fit_all, raise};
pub use replace::{replace, with_suffix};
pub use sources::{FileError, Leftover, Origin, Refusal, Refusals, Sources};
pub use table::{folded, markdown, plain};

/// Declares a settings struct, one block per key.
///
/// ```
/// use config::shape::{flag, whole};
///
/// config::declare! {
///     /// Settings of the example.
///     pub struct Example;
///
///     section "Addresses" {
///         /// Port that clients connect to.
///         listen_port: u16 { name: "listenPort", default: 9876, allowed: whole(1..=65535), change: AtStart }
///     }
///     section "Topics" {
///         /// Whether the first message to an unknown topic creates it.
///         auto_create: bool { name: "autoCreateTopicEnable", default: true, allowed: flag(), change: Live }
///     }
/// }
/// impl config::Settings for Example {}
///
/// let mut sources = config::Sources::new();
/// sources.flag("--port", "listenPort", "9999");
/// let example: Example = sources.fill().unwrap();
/// assert_eq!(example.listen_port, 9999);
/// ```
#[macro_export]
macro_rules! declare {
    (
        $(#[$outer:meta])*
        $vis:vis struct $name:ident;
        $(section $section:literal {
            $(
                $(#[doc = $doc:literal])+
                $field:ident : $type:ty {
                    name: $key:literal, default: $default:expr, allowed: $shape:expr, change: $change:ident $(,)?
                }
            )*
        })*
    ) => {
        $(#[$outer])*
        #[derive(Debug, Clone, PartialEq)]
        $vis struct $name {
            $($(
                $(#[doc = $doc])+
                #[doc = ""]
                #[doc = concat!("Key `", $key, "`.")]
                pub $field: $type,
            )*)*
            /// Keys of Apache's that were set and have no effect here.
            pub others: $crate::Others,
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($($field: $default,)*)* others: $crate::Others::default() }
            }
        }

        impl $crate::Declared for $name {
            fn keys() -> &'static [$crate::Key<Self>] {
                static KEYS: &[$crate::Key<$name>] = &[$($(
                    $crate::Key {
                        name: $key,
                        section: $section,
                        doc: concat!($($doc),+),
                        change: $crate::Change::$change,
                        kind: || $crate::shape::Shape::<$type>::kind(&$shape),
                        allowed: || $crate::shape::Shape::<$type>::allowed(&$shape),
                        set: |settings, text| {
                            settings.$field = $crate::shape::Shape::<$type>::parse(&$shape, text)?;
                            Ok(())
                        },
                        fit: |settings, text| match $crate::shape::Shape::<$type>::fit(&$shape, text) {
                            Some(value) => {
                                settings.$field = value;
                                true
                            }
                            None => false,
                        },
                        print: |settings| $crate::shape::Shape::<$type>::print(&$shape, &settings.$field),
                    },
                )*)*];
                KEYS
            }

            fn others(&self) -> &$crate::Others {
                &self.others
            }

            fn others_mut(&mut self) -> &mut $crate::Others {
                &mut self.others
            }
        }
    };
}

/// Generates the tests that every declaration has to pass, for the `tests` module beside it.
///
/// Every default is an allowed value, every key is Apache's or begins with `apogee`, and no two keys share a variable.
#[macro_export]
macro_rules! declaration_tests {
    ($settings:ty) => {
        #[test]
        fn every_default_is_an_allowed_value() {
            let mut settings = <$settings>::default();
            for key in <$settings as $crate::Declared>::keys() {
                let text = (key.print)(&settings);
                assert_eq!((key.set)(&mut settings, &text), Ok(()), "{}={text}", key.name);
            }
            assert_eq!(settings, <$settings>::default());
        }

        #[test]
        fn a_key_is_apaches_or_says_that_it_is_ours() {
            for key in <$settings as $crate::Declared>::keys() {
                assert!(
                    key.name.starts_with("apogee") != $crate::is_known_to_apache(key.name),
                    "{}",
                    key.name
                );
            }
        }

        #[test]
        fn what_is_given_beside_the_keys_is_apaches_and_declared_nowhere() {
            let mut names = Vec::new();
            for (name, _) in $crate::given::<$settings>() {
                assert!($crate::is_known_to_apache(name), "{name}");
                assert!(<$settings as $crate::Declared>::key(name).is_none(), "{name}");
                names.push(name);
            }
            assert_eq!(
                names.len(),
                <$settings as $crate::Settings>::GIVEN.lines().count(),
                "a line each"
            );
            assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "sorted, each once");
        }

        #[test]
        fn no_two_keys_share_a_variable() {
            let keys = <$settings as $crate::Declared>::keys();
            let mut variables: Vec<_> = keys.iter().map(|key| $crate::environment_name(key.name)).collect();
            variables.sort();
            variables.dedup();
            assert_eq!(variables.len(), keys.len());
        }
    };
}

/// Declares an enum whose values have names in configuration files.
#[macro_export]
macro_rules! choice {
    (
        $(#[$outer:meta])*
        $vis:vis enum $name:ident {
            $($(#[$inner:meta])* $variant:ident = $text:literal),+ $(,)?
        }
    ) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis enum $name { $($(#[$inner])* $variant),+ }

        impl $crate::shape::Choice for $name {
            const NAMES: &'static [(&'static str, Self)] = &[$(($text, Self::$variant)),+];
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str($crate::shape::Choice::name(self))
            }
        }
    };
}
