//! The client's language in a frame header: a name in JSON headers, one byte in binary ones.

macro_rules! languages {
    ($($variant:ident = $code:literal $name:literal,)*) => {
        /// The language of the sender. Unknown names and bytes become [`Language::Other`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[allow(missing_docs)]
        pub enum Language {
            $($variant = $code,)*
        }

        impl Language {
            /// The name as Apache's enum spells it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// From the byte of a binary header.
            pub fn from_code(code: u8) -> Self {
                match code { $($code => Self::$variant,)* _ => Self::Other }
            }

            /// From the name in a JSON header, in any case, or from its number as text.
            pub fn from_name(name: &[u8]) -> Self {
                $(if name.eq_ignore_ascii_case($name.as_bytes()) { return Self::$variant; })*
                let code = crate::number::parse_i64(name).and_then(|code| u8::try_from(code).ok());
                code.map_or(Self::Other, Self::from_code)
            }
        }
    };
}
languages! {
    Java = 0 "JAVA",
    Cpp = 1 "CPP",
    Dotnet = 2 "DOTNET",
    Python = 3 "PYTHON",
    Delphi = 4 "DELPHI",
    Erlang = 5 "ERLANG",
    Ruby = 6 "RUBY",
    Other = 7 "OTHER",
    Http = 8 "HTTP",
    Go = 9 "GO",
    Php = 10 "PHP",
    Oms = 11 "OMS",
    Rust = 12 "RUST",
    NodeJs = 13 "NODE_JS",
}

impl Language {
    /// The byte of a binary header.
    pub fn code(self) -> u8 {
        self as u8
    }
}
