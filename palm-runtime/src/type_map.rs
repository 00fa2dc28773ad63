//! [`TypeMap`]: values by their types, which layers attach to a call.

use std::any::{Any, TypeId};
use std::sync::Arc;

/// At most one value of each type. A clone shares the values.
#[derive(Clone, Default)]
pub(crate) struct TypeMap(Vec<(TypeId, Arc<dyn Any + Send + Sync>)>);

impl TypeMap {
    /// Sets the value of its type. A previous one is replaced.
    pub(crate) fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        let (id, value) = (TypeId::of::<T>(), Arc::new(value));
        match self.0.iter_mut().find(|(known, _)| *known == id) {
            Some((_, known)) => *known = value,
            None => self.0.push((id, value)),
        }
    }

    /// Returns the value of the type `T`.
    pub(crate) fn get<T: 'static>(&self) -> Option<&T> {
        let id = TypeId::of::<T>();
        let (_, value) = self.0.iter().find(|(known, _)| *known == id)?;
        value.downcast_ref()
    }
}

impl std::fmt::Debug for TypeMap {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "TypeMap({} values)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_map_has_one_value_of_each_type() {
        let mut map = TypeMap::default();
        map.insert(1_u8);
        map.insert("text");
        let before = map.clone();
        map.insert(2_u8);
        assert_eq!((map.get::<u8>(), before.get::<u8>()), (Some(&2), Some(&1)));
        assert_eq!(map.get::<&str>(), Some(&"text"));
        assert_eq!(map.get::<u16>(), None);
    }
}
