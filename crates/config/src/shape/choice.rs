//! One of a few names.

use super::{Refused, Shape};

/// An enum made by [`crate::choice!`].
pub trait Choice: Copy + PartialEq + 'static {
    /// Every value with its name.
    const NAMES: &'static [(&'static str, Self)];

    /// Name of this value.
    fn name(&self) -> &'static str {
        Self::NAMES.iter().find(|(_, value)| value == self).map_or("", |(name, _)| name)
    }
}

/// One of a few names.
#[derive(Debug, Clone, Copy)]
pub struct OneOf {
    refused: &'static [(&'static str, &'static str)],
}

/// One of the names of the enum.
pub fn one_of() -> OneOf {
    OneOf { refused: &[] }
}

impl OneOf {
    /// Names that Apache accepts and that are refused here, each with the reason.
    pub fn refusing(self, refused: &'static [(&'static str, &'static str)]) -> Self {
        Self { refused }
    }
}

impl<T: Choice> Shape<T> for OneOf {
    fn kind(&self) -> String {
        "one of".to_owned()
    }

    fn allowed(&self) -> String {
        T::NAMES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }

    fn parse(&self, text: &str) -> Result<T, Refused> {
        if let Some((_, value)) = T::NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(*value);
        }
        let reason = self.refused.iter().find(|(name, _)| *name == text);
        Err(reason.map_or(Refused::NotAllowed, |(_, why)| Refused::Because((*why).to_owned())))
    }

    /// The names in any case.
    fn fit(&self, text: &str) -> Option<T> {
        T::NAMES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(text))
            .map(|(_, value)| *value)
    }

    fn print(&self, value: &T) -> String {
        value.name().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::choice! {
        enum Colour { Red = "RED", Green = "GREEN" }
    }

    #[test]
    fn names_of_an_enum_can_be_refused_with_a_reason() {
        let shape = one_of().refusing(&[("BLUE", "there is no blue yet")]);
        assert_eq!(shape.parse("GREEN"), Ok(Colour::Green));
        assert_eq!(
            Shape::<Colour>::parse(&shape, "BLUE"),
            Err(Refused::Because("there is no blue yet".to_owned()))
        );
        assert_eq!(Shape::<Colour>::parse(&shape, "green"), Err(Refused::NotAllowed));
        assert_eq!(Shape::<Colour>::fit(&shape, "green"), Some(Colour::Green));
        assert_eq!(Shape::<Colour>::fit(&shape, "blue"), None);
        assert_eq!(Shape::<Colour>::allowed(&shape), "RED, GREEN");
        assert_eq!(Colour::Red.to_string(), "RED");
    }
}
