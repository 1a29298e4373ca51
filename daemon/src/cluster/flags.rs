//! The flags of a daemon, each once.

use std::collections::BTreeMap;

/// Flags by their long names without dashes. Lists have commas between their items.
#[derive(Clone, Debug, Default)]
pub(super) struct Flags(BTreeMap<String, String>);

impl Flags {
    /// Gives a flag this value alone.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }

    /// Adds an item to a list.
    pub(super) fn add(&mut self, name: &str, item: &str) {
        let list = self.0.entry(name.to_owned()).or_default();
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(item);
    }

    /// As arguments. One with an empty value is left out.
    pub(super) fn args(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| format!("--{name}={value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_grow_and_values_are_replaced() {
        let mut flags = Flags::default();
        flags.set("capacity", "1GiB");
        flags.set("capacity", "2GiB");
        flags.add("registry", "a");
        flags.add("registry", "b=http://b");
        flags.set("zone", "");
        assert_eq!(flags.args().collect::<Vec<_>>(), ["--capacity=2GiB", "--registry=a,b=http://b"]);
    }
}
