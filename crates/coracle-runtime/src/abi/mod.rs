//! What guests of other systems expect around them, a folder for each system.
//! Their words stand here and in the faces, and nowhere else.

pub(crate) mod openfaas;
