//! Hands the memory map to the linker, for the board alone.

use std::env::var_os;
use std::path::PathBuf;
use std::{fs, io};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=memory.x");
    let (Some(out), Some(_)) = (var_os("OUT_DIR"), var_os("CARGO_FEATURE_BOARD")) else {
        return Ok(());
    };
    fs::copy("memory.x", PathBuf::from(&out).join("memory.x"))?;
    println!("cargo:rustc-link-search={}", PathBuf::from(&out).display());
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
    Ok(())
}
