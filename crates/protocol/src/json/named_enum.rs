//! Java enums: written by name, read by name in any case or by ordinal, as number or as text.
//!
//! Java reads an unknown value as null. Here it is the enum's fallback, as for an absent
//! field, or `None` ([`known`]).

use super::coerce::integer_of;
use serde::de::{self, Deserializer, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// A Java enum. Declared with [`named_enum!`].
pub(crate) trait NamedEnum: Copy + 'static {
    /// In Java's order.
    const ALL: &'static [Self];

    /// The name on the wire.
    fn wire_name(self) -> &'static str;

    /// By name in any case, or by ordinal.
    fn of_text(text: &str) -> Option<Self> {
        let by_name = Self::ALL.iter().find(|one| one.wire_name().eq_ignore_ascii_case(text));
        let by_ordinal = || text.starts_with(|first: char| !first.is_alphabetic()).then(|| integer_of(text));
        by_name.copied().or_else(|| Self::of_ordinal(by_ordinal()??))
    }

    /// By ordinal.
    fn of_ordinal(ordinal: i64) -> Option<Self> {
        Self::ALL.get(usize::try_from(ordinal).ok()?).copied()
    }
}

/// Reads a value; `None` if the enum does not have it.
///
/// # Errors
/// The deserializer's error for a list or an object.
pub(crate) fn known<'de, E: NamedEnum, D: Deserializer<'de>>(deserializer: D) -> Result<Option<E>, D::Error> {
    deserializer.deserialize_any(Known(PhantomData))
}

struct Known<E>(PhantomData<E>);

impl<'de, E: NamedEnum> Visitor<'de> for Known<E> {
    type Value = Option<E>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a name or an ordinal")
    }

    fn visit_str<R: de::Error>(self, text: &str) -> Result<Option<E>, R> {
        Ok(E::of_text(text))
    }

    fn visit_u64<R: de::Error>(self, ordinal: u64) -> Result<Option<E>, R> {
        Ok(i64::try_from(ordinal).ok().and_then(E::of_ordinal))
    }

    fn visit_i64<R: de::Error>(self, ordinal: i64) -> Result<Option<E>, R> {
        Ok(E::of_ordinal(ordinal))
    }

    fn visit_f64<R: de::Error>(self, ordinal: f64) -> Result<Option<E>, R> {
        Ok(E::of_ordinal(ordinal as i64))
    }

    fn visit_bool<R: de::Error>(self, _: bool) -> Result<Option<E>, R> {
        Ok(None)
    }

    fn visit_unit<R: de::Error>(self) -> Result<Option<E>, R> {
        Ok(None)
    }

    fn visit_none<R: de::Error>(self) -> Result<Option<E>, R> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<E>, D::Error> {
        known(deserializer)
    }
}

/// Declares an enum by its names on the wire, in Java's order, and its fallback.
macro_rules! named_enum {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)* } else $fallback:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_meta])* $variant,)* }

        impl $name {
            /// The name on the wire.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// By its exact name, as in header fields.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$variant),)* _ => None }
            }
        }

        impl $crate::json::named_enum::NamedEnum for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)*];
            fn wire_name(self) -> &'static str {
                self.name()
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::$fallback
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::json::named_enum::known(deserializer).map(Option::unwrap_or_default)
            }
        }
    };
}
pub(crate) use named_enum;
