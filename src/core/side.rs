//! The two systems of a sync, and a value for each of them.

use serde::{Deserialize, Serialize};

/// Which of the two systems.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Side {
    /// System 1, the server.
    One,
    /// System 2, the client.
    Two,
}

impl Side {
    /// The other system.
    pub fn other(self) -> Side {
        match self {
            Side::One => Side::Two,
            Side::Two => Side::One,
        }
    }
}

/// A value for each of the two systems.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Sides<T> {
    /// System 1's.
    pub one: T,
    /// System 2's.
    pub two: T,
}

impl<T> Sides<T> {
    /// The value of `side`.
    pub fn of(&self, side: Side) -> &T {
        match side {
            Side::One => &self.one,
            Side::Two => &self.two,
        }
    }

    /// The value of `side`, to change it.
    pub fn of_mut(&mut self, side: Side) -> &mut T {
        match side {
            Side::One => &mut self.one,
            Side::Two => &mut self.two,
        }
    }

    /// The same values with the systems exchanged.
    pub fn swapped(self) -> Sides<T> {
        Sides { one: self.two, two: self.one }
    }
}
