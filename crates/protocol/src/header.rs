//! Common to all request and response headers: how a field is read, written and refused.
//!
//! A header is a struct of typed fields; the `header!` macro derives reading from and writing to ext fields. The headers
//! of the hot requests (send, pull) are written by hand instead, to read all fields in one pass.

use crate::ext::Ext;

/// Why a request header is invalid. Answered with code 1 and this text; the connection stays open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// A required field is missing.
    #[error("request header field {0} is missing")]
    Missing(&'static str),
    /// A field cannot be parsed as its type. Compat: for many requests Apache logs this and uses 0; a commit to
    /// queue `" 5"` would then go to queue 0.
    #[error("request header field {0} is malformed")]
    Malformed(&'static str),
}

/// A type of an ext field.
pub trait Field<'a>: Sized {
    /// Reads the field.
    ///
    /// # Errors
    /// [`HeaderError`] if it is required and absent, or not of this type.
    fn read(ext: &'a Ext, name: &'static str) -> Result<Self, HeaderError>;
    /// Adds the field; absent optional values add nothing.
    fn write(&self, name: &str, ext: &mut Ext);
}

impl<'a> Field<'a> for &'a str {
    fn read(ext: &'a Ext, name: &'static str) -> Result<Self, HeaderError> {
        ext.require_text(name)
    }
    fn write(&self, name: &str, ext: &mut Ext) {
        ext.push(name, *self);
    }
}

impl<'a> Field<'a> for Option<&'a str> {
    fn read(ext: &'a Ext, name: &'static str) -> Result<Self, HeaderError> {
        ext.optional_text(name)
    }
    fn write(&self, name: &str, ext: &mut Ext) {
        if let Some(text) = self {
            ext.push(name, *text);
        }
    }
}

macro_rules! integer_field {
    ($($int:ty)*) => {$(
        impl<'a> Field<'a> for $int {
            fn read(ext: &'a Ext, name: &'static str) -> Result<Self, HeaderError> {
                ext.require_int(name)
            }
            fn write(&self, name: &str, ext: &mut Ext) {
                ext.push(name, *self);
            }
        }
        impl<'a> Field<'a> for Option<$int> {
            fn read(ext: &'a Ext, name: &'static str) -> Result<Self, HeaderError> {
                ext.optional_int(name)
            }
            fn write(&self, name: &str, ext: &mut Ext) {
                if let Some(number) = self {
                    ext.push(name, *number);
                }
            }
        }
    )*};
}
integer_field!(i32 i64);

/// An absent boolean is false, as a Java primitive's default.
impl<'a> Field<'a> for bool {
    fn read(ext: &'a Ext, name: &'static str) -> Result<Self, HeaderError> {
        Ok(ext.bool(name).unwrap_or(false))
    }
    fn write(&self, name: &str, ext: &mut Ext) {
        ext.push(name, *self);
    }
}

impl<'a> Field<'a> for Option<bool> {
    fn read(ext: &'a Ext, name: &'static str) -> Result<Self, HeaderError> {
        Ok(ext.bool(name))
    }
    fn write(&self, name: &str, ext: &mut Ext) {
        if let Some(flag) = self {
            ext.push(name, *flag);
        }
    }
}

/// Reads a header. If a field is malformed because it is not UTF-8, reads it again with the text that Java reads.
#[inline]
pub(crate) fn read<'a, T>(ext: &'a Ext, header: impl Fn(&'a Ext) -> Result<T, HeaderError>) -> Result<T, HeaderError> {
    match header(ext) {
        Err(error) => read_as_text(ext, error, header),
        read => read,
    }
}

#[cold]
fn read_as_text<'a, T>(ext: &'a Ext, error: HeaderError, header: impl Fn(&'a Ext) -> Result<T, HeaderError>) -> Result<T, HeaderError> {
    ext.as_text().map_or(Err(error), header)
}

/// Declares a header: `pub field: Type = "wireName"`. Types are those that implement [`Field`].
macro_rules! header {
    ($(#[$meta:meta])* pub struct $name:ident<'a> { $($(#[$field_meta:meta])* pub $field:ident: $kind:ty = $wire:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name<'a> { $($(#[$field_meta])* pub $field: $kind,)* }

        impl<'a> $name<'a> {
            /// Reads the header from a frame's ext fields.
            ///
            /// # Errors
            /// [`HeaderError`] if a required field is absent or a field is not of its type.
            pub fn decode(ext: &'a $crate::ext::Ext) -> Result<Self, $crate::header::HeaderError> {
                $crate::header::read(ext, |ext| Ok(Self { $($field: $crate::header::Field::read(ext, $wire)?,)* }))
            }

            /// Adds the header's fields to `ext`.
            pub fn encode(&self, ext: &mut $crate::ext::Ext) {
                $($crate::header::Field::write(&self.$field, $wire, ext);)*
            }
        }
    };
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $kind:ty = $wire:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name { $($(#[$field_meta])* pub $field: $kind,)* }

        impl $name {
            /// Reads the header from a frame's ext fields.
            ///
            /// # Errors
            /// [`HeaderError`] if a required field is absent or a field is not of its type.
            pub fn decode(ext: &$crate::ext::Ext) -> Result<Self, $crate::header::HeaderError> {
                Ok(Self { $($field: $crate::header::Field::read(ext, $wire)?,)* })
            }

            /// Adds the header's fields to `ext`.
            pub fn encode(&self, ext: &mut $crate::ext::Ext) {
                $($crate::header::Field::write(&self.$field, $wire, ext);)*
            }
        }
    };
}
pub(crate) use header;
