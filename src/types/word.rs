//! One word that owns a listpack or a table: what stands in an entry for a collection, where every word counts.
//!
//! A listpack is one pointer to memory aligned to eight bytes, and so is a boxed table; the lowest bit, which is zero
//! in both, is set for a table. All unsafe code of that is here. Invariant: the word without its lowest bit is the
//! pointer of a [`Listpack`] or of a `Box<T>`, as that bit says, and owns it.

use std::marker::PhantomData;
use std::mem;
use std::ptr::NonNull;

use crate::structures::listpack::Listpack;

const TABLE: usize = 1;

/// See the head of this file.
pub struct PackedOr<T> {
    word: NonNull<u8>,
    owned: PhantomData<(Listpack, Box<T>)>,
}

/// A look at what the word owns.
pub enum View<'a, T> {
    Packed(&'a Listpack),
    Table(&'a T),
}

/// A look at what the word owns, for changes.
pub enum ViewMut<'a, T> {
    Packed(&'a mut Listpack),
    Table(&'a mut T),
}

// SAFETY: the word owns what it points to, as `owned` says.
unsafe impl<T: Send> Send for PackedOr<T> {}
unsafe impl<T: Sync> Sync for PackedOr<T> {}

impl<T> PackedOr<T> {
    pub fn packed(listpack: Listpack) -> Self {
        // SAFETY: a listpack is nothing but a pointer that is not null (its size is checked by the compiler here).
        let word = unsafe { mem::transmute::<Listpack, NonNull<u8>>(listpack) };
        assert!(word.addr().get() & TABLE == 0, "a listpack is aligned");
        PackedOr { word, owned: PhantomData }
    }

    pub fn table(table: T) -> Self {
        const { assert!(align_of::<T>() > TABLE) }
        let at = NonNull::from(Box::leak(Box::new(table))).cast::<u8>();
        PackedOr { word: at.map_addr(|addr| addr | TABLE), owned: PhantomData }
    }

    /// The table, if it is one.
    fn table_at(&self) -> Option<NonNull<T>> {
        let address = self.word.addr().get();
        // SAFETY: the pointer of a box is not null.
        (address & TABLE != 0).then(|| {
            unsafe { NonNull::new_unchecked(self.word.as_ptr().map_addr(|addr| addr & !TABLE)) }.cast()
        })
    }

    #[inline]
    pub fn view(&self) -> View<'_, T> {
        match self.table_at() {
            // SAFETY: the box is owned, and borrowed as long as `self`.
            Some(at) => View::Table(unsafe { at.as_ref() }),
            // SAFETY: without the bit the word is a listpack, as `packed` made it.
            None => View::Packed(unsafe { &*(&raw const self.word).cast() }),
        }
    }

    #[inline]
    pub fn view_mut(&mut self) -> ViewMut<'_, T> {
        match self.table_at() {
            // SAFETY: as for `view`, and the borrow is exclusive.
            Some(mut at) => ViewMut::Table(unsafe { at.as_mut() }),
            // SAFETY: as for `view`; whatever listpack is put there is aligned, too.
            None => ViewMut::Packed(unsafe { &mut *(&raw mut self.word).cast() }),
        }
    }
}

impl<T> Drop for PackedOr<T> {
    fn drop(&mut self) {
        match self.table_at() {
            // SAFETY: the pointer came from a box, and is not looked at again.
            Some(at) => drop(unsafe { Box::from_raw(at.as_ptr()) }),
            // SAFETY: the word is a listpack, and is not looked at again.
            None => drop(unsafe { (&raw const self.word).cast::<Listpack>().read() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_word_owns_what_it_is_given() {
        assert_eq!(size_of::<Option<PackedOr<Arc<u8>>>>(), 8);
        let alive = Arc::new(7u8);
        let mut word = PackedOr::table(Arc::clone(&alive));
        assert!(matches!(word.view(), View::Table(table) if **table == 7));
        let ViewMut::Table(table) = word.view_mut() else { panic!("a table") };
        *table = Arc::clone(&alive);
        assert_eq!(Arc::strong_count(&alive), 2);
        word = PackedOr::packed(Listpack::new());
        assert_eq!(Arc::strong_count(&alive), 1);
        for n in 0..1000 {
            let ViewMut::Packed(listpack) = word.view_mut() else { panic!("a listpack") };
            listpack.push_back(n);
        }
        assert!(matches!(word.view(), View::Packed(listpack) if listpack.len() == 1000));
    }
}
