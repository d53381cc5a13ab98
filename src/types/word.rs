//! One word that owns a listpack or one of two larger structures: what stands in an entry for a collection, where
//! every word counts.
//!
//! A listpack is one pointer to memory aligned to eight bytes, and so is a box; of its lowest bits, which are zero in
//! all of them, one is set for a table and another for its rarer kind. All unsafe code of that is here. Invariant: the
//! word without those bits is the pointer of a [`Listpack`], a `Box<T>` or a `Box<R>`, as they say, and owns it.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::mem;
use std::ptr::NonNull;

use crate::structures::listpack::Listpack;

const TABLE: usize = 1;
const RARE: usize = 2;

/// See the head of this file. Most collections have no rarer kind.
pub struct PackedOr<T, R = Infallible> {
    word: NonNull<u8>,
    owned: PhantomData<(Listpack, Box<T>, Box<R>)>,
}

/// A look at what the word owns.
pub enum View<'a, T, R> {
    Packed(&'a Listpack),
    Table(&'a T),
    Rare(&'a R),
}

/// A look at what the word owns, for changes.
pub enum ViewMut<'a, T, R> {
    Packed(&'a mut Listpack),
    Table(&'a mut T),
    Rare(&'a mut R),
}

/// As [`View`], where there is no rarer kind.
pub enum Either<'a, T> {
    Packed(&'a Listpack),
    Large(&'a T),
}

/// As [`ViewMut`], where there is no rarer kind.
pub enum EitherMut<'a, T> {
    Packed(&'a mut Listpack),
    Large(&'a mut T),
}

/// Where what the word owns stands.
enum At<T, R> {
    /// In the word itself.
    Packed,
    Table(NonNull<T>),
    Rare(NonNull<R>),
}

// SAFETY: the word owns what it points to, as `owned` says.
unsafe impl<T: Send, R: Send> Send for PackedOr<T, R> {}
unsafe impl<T: Sync, R: Sync> Sync for PackedOr<T, R> {}

impl<T, R> PackedOr<T, R> {
    pub fn packed(listpack: Listpack) -> Self {
        // SAFETY: a listpack is nothing but a pointer that is not null (its size is checked by the compiler here).
        let word = unsafe { mem::transmute::<Listpack, NonNull<u8>>(listpack) };
        assert!(word.addr().get() & (TABLE | RARE) == 0, "a listpack is aligned");
        PackedOr { word, owned: PhantomData }
    }

    pub fn table(table: T) -> Self {
        Self::boxed(table, TABLE)
    }

    pub fn rare(rare: R) -> Self {
        Self::boxed(rare, RARE)
    }

    fn boxed<B>(value: B, bit: usize) -> Self {
        const { assert!(align_of::<B>() > TABLE | RARE) }
        let at = NonNull::from(Box::leak(Box::new(value))).cast::<u8>();
        PackedOr { word: at.map_addr(|addr| addr | bit), owned: PhantomData }
    }

    /// Where what it owns begins in memory; only ever used to ask the processor to fetch it early.
    pub fn address(&self) -> *const u8 {
        self.word.as_ptr().map_addr(|addr| addr & !(TABLE | RARE))
    }

    #[inline]
    fn at(&self) -> At<T, R> {
        let bits = self.word.addr().get() & (TABLE | RARE);
        if bits == 0 {
            return At::Packed;
        }
        // SAFETY: the pointer of a box is not null.
        let at =
            unsafe { NonNull::new_unchecked(self.word.as_ptr().map_addr(|addr| addr & !(TABLE | RARE))) };
        if bits == TABLE { At::Table(at.cast()) } else { At::Rare(at.cast()) }
    }

    #[inline]
    pub fn view(&self) -> View<'_, T, R> {
        match self.at() {
            // SAFETY: the box is owned, and borrowed as long as `self`.
            At::Table(at) => View::Table(unsafe { at.as_ref() }),
            // SAFETY: likewise.
            At::Rare(at) => View::Rare(unsafe { at.as_ref() }),
            // SAFETY: without the bits the word is a listpack, as `packed` made it.
            At::Packed => View::Packed(unsafe { &*(&raw const self.word).cast() }),
        }
    }

    #[inline]
    pub fn view_mut(&mut self) -> ViewMut<'_, T, R> {
        match self.at() {
            // SAFETY: as for `view`, and the borrow is exclusive.
            At::Table(mut at) => ViewMut::Table(unsafe { at.as_mut() }),
            // SAFETY: likewise.
            At::Rare(mut at) => ViewMut::Rare(unsafe { at.as_mut() }),
            // SAFETY: as for `view`; whatever listpack is put there is aligned, too.
            At::Packed => ViewMut::Packed(unsafe { &mut *(&raw mut self.word).cast() }),
        }
    }
}

impl<T> PackedOr<T> {
    #[inline]
    pub fn either(&self) -> Either<'_, T> {
        match self.view() {
            View::Packed(pack) => Either::Packed(pack),
            View::Table(large) => Either::Large(large),
            View::Rare(never) => match *never {},
        }
    }

    #[inline]
    pub fn either_mut(&mut self) -> EitherMut<'_, T> {
        match self.view_mut() {
            ViewMut::Packed(pack) => EitherMut::Packed(pack),
            ViewMut::Table(large) => EitherMut::Large(large),
            ViewMut::Rare(never) => match *never {},
        }
    }
}

impl<T: Clone> Clone for PackedOr<T> {
    fn clone(&self) -> Self {
        match self.either() {
            Either::Packed(pack) => PackedOr::packed(pack.clone()),
            Either::Large(large) => PackedOr::table(large.clone()),
        }
    }
}

impl<T, R> Drop for PackedOr<T, R> {
    fn drop(&mut self) {
        match self.at() {
            // SAFETY: the pointer came from a box, and is not looked at again.
            At::Table(at) => drop(unsafe { Box::from_raw(at.as_ptr()) }),
            // SAFETY: likewise.
            At::Rare(at) => drop(unsafe { Box::from_raw(at.as_ptr()) }),
            // SAFETY: the word is a listpack, and is not looked at again.
            At::Packed => drop(unsafe { (&raw const self.word).cast::<Listpack>().read() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structures::listpack::Element;
    use std::sync::Arc;

    #[test]
    fn a_word_owns_what_it_is_given() {
        assert_eq!(size_of::<Option<PackedOr<Arc<u8>, Arc<u16>>>>(), 8);
        let (alive, rare) = (Arc::new(7u8), Arc::new(8u16));
        let mut word = PackedOr::table(Arc::clone(&alive));
        assert!(matches!(word.view(), View::Table(table) if **table == 7));
        let ViewMut::Table(table) = word.view_mut() else { panic!("a table") };
        *table = Arc::clone(&alive);
        assert_eq!(Arc::strong_count(&alive), 2);
        word = PackedOr::rare(Arc::clone(&rare));
        assert!(matches!(word.view(), View::Rare(table) if **table == 8));
        assert_eq!((Arc::strong_count(&alive), Arc::strong_count(&rare)), (1, 2));
        word = PackedOr::packed(Listpack::new());
        assert_eq!(Arc::strong_count(&rare), 1);
        for n in 0..1000 {
            let ViewMut::Packed(listpack) = word.view_mut() else { panic!("a listpack") };
            listpack.push_back(n);
        }
        assert!(matches!(word.view(), View::Packed(listpack) if listpack.len() == 1000));
    }

    #[test]
    fn a_copy_owns_what_it_is_a_copy_of() {
        let alive = Arc::new(7u8);
        let mut word: PackedOr<Arc<u8>> = PackedOr::table(Arc::clone(&alive));
        let mut copy = word.clone();
        assert_eq!(Arc::strong_count(&alive), 3);
        assert!(matches!(copy.either(), Either::Large(large) if **large == 7));
        word = PackedOr::packed([Element::Int(5)].into_iter().collect());
        assert_eq!(Arc::strong_count(&alive), 2);
        copy.clone_from(&word);
        assert_eq!(Arc::strong_count(&alive), 1);
        let EitherMut::Packed(listpack) = copy.either_mut() else { panic!("a listpack") };
        listpack.push_back(6);
        drop(word);
        assert!(matches!(copy.either(), Either::Packed(listpack) if listpack.len() == 2));
    }
}
