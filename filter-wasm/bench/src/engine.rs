//! Two engines behind one call: wasmi, an interpreter as Fluent Bit's, and wasmtime, a compiler.
//!
//! Both do for a call what Fluent Bit's `filter_wasm` does: the tag and the record are copied into the guest with the guest's own
//! `malloc`, NUL-terminated; the answer is copied out up to its NUL; both buffers are freed. The guest has no files and no clock.

use anyhow::{Context, Result, anyhow, bail};

/// Name of the function that Fluent Bit is configured to call.
const FUNCTION: &str = "rank_filter";

/// WASI's error for a descriptor that isn't open: what every imported function answers.
const BAD_DESCRIPTOR: i32 = 8;

/// Fuel that a counting engine starts with; more than any run here burns.
const FUEL: u64 = u64::MAX / 2;

/// What the benchmarks need of an engine.
pub trait Engine {
    /// One record in; the answer, empty when nothing leaves.
    fn call(&mut self, tag: &[u8], sec: u32, record: &[u8]) -> Result<&[u8]>;

    /// Bytes of the instance's linear memory.
    fn memory_bytes(&self) -> usize;
}

/// The instances of both engines have the same functions under the same names, but no common trait.
macro_rules! call_as_fluent_bit_does {
    () => {
        fn call(&mut self, tag: &[u8], sec: u32, record: &[u8]) -> Result<&[u8]> {
            let tag_at = self.copy_in(tag)?;
            let record_at = self.copy_in(record)?;
            let arguments = (
                tag_at,
                tag.len() as i32,
                sec as i32,
                0,
                record_at,
                record.len() as i32,
            );
            let at = self.function.call(&mut self.store, arguments)?;
            self.answer.clear();
            let memory = self.memory.data(&self.store);
            let text = memory
                .get(at as usize..)
                .filter(|_| at != 0)
                .context("a null pointer came back")?;
            let end = text
                .iter()
                .position(|&b| b == 0)
                .context("an answer without an end")?;
            self.answer.extend_from_slice(&text[..end]);
            self.free.call(&mut self.store, tag_at)?;
            self.free.call(&mut self.store, record_at)?;
            Ok(&self.answer)
        }

        fn memory_bytes(&self) -> usize {
            self.memory.data_size(&self.store)
        }
    };
}

macro_rules! copy_in {
    () => {
        fn copy_in(&mut self, text: &[u8]) -> Result<i32> {
            let at = self.malloc.call(&mut self.store, text.len() as i32 + 1)?;
            let room = self.memory.data_mut(&mut self.store);
            let room = room
                .get_mut(at as usize..at as usize + text.len() + 1)
                .filter(|_| at != 0)
                .context("malloc has no room")?;
            room[..text.len()].copy_from_slice(text);
            room[text.len()] = 0;
            Ok(at)
        }
    };
}

/// wasmi.
pub struct Wasmi {
    store: wasmi::Store<()>,
    memory: wasmi::Memory,
    malloc: wasmi::TypedFunc<i32, i32>,
    free: wasmi::TypedFunc<i32, ()>,
    function: wasmi::TypedFunc<(i32, i32, i32, i32, i32, i32), i32>,
    answer: Vec<u8>,
}

impl Wasmi {
    /// `counting`: burn fuel, a weighted count of instructions.
    pub fn new(module: &[u8], counting: bool) -> Result<Self> {
        let mut config = wasmi::Config::default();
        config.consume_fuel(counting);
        let engine = wasmi::Engine::new(&config);
        let module = wasmi::Module::new(&engine, module)?;
        let mut store = wasmi::Store::new(&engine, ());
        if counting {
            store.set_fuel(FUEL)?;
        }
        let mut linker = wasmi::Linker::new(&engine);
        for import in module.imports() {
            let Some(ty) = import.ty().func() else {
                bail!("{} is no function", import.name())
            };
            let function = wasmi::Func::new(&mut store, ty.clone(), |_, _, results| {
                results
                    .iter_mut()
                    .for_each(|result| *result = wasmi::Val::I32(BAD_DESCRIPTOR));
                Ok(())
            });
            linker.define(import.module(), import.name(), function)?;
        }
        let instance = linker.instantiate_and_start(&mut store, &module)?;
        instance
            .get_typed_func::<(), ()>(&store, "_initialize")?
            .call(&mut store, ())?;
        Ok(Wasmi {
            memory: instance
                .get_memory(&store, "memory")
                .ok_or_else(|| anyhow!("no memory"))?,
            malloc: instance.get_typed_func(&store, "malloc")?,
            free: instance.get_typed_func(&store, "free")?,
            function: instance.get_typed_func(&store, FUNCTION)?,
            store,
            answer: Vec::new(),
        })
    }

    /// Fuel burned so far.
    pub fn fuel(&self) -> Result<u64> {
        Ok(FUEL - self.store.get_fuel()?)
    }

    copy_in!();
}

impl Engine for Wasmi {
    call_as_fluent_bit_does!();
}

/// wasmtime.
pub struct Wasmtime {
    store: wasmtime::Store<()>,
    memory: wasmtime::Memory,
    malloc: wasmtime::TypedFunc<i32, i32>,
    free: wasmtime::TypedFunc<i32, ()>,
    function: wasmtime::TypedFunc<(i32, i32, i32, i32, i32, i32), i32>,
    answer: Vec<u8>,
}

impl Wasmtime {
    pub fn new(module: &[u8]) -> Result<Self> {
        let engine = wasmtime::Engine::default();
        let module = wasmtime::Module::new(&engine, module)?;
        let mut store = wasmtime::Store::new(&engine, ());
        let mut linker = wasmtime::Linker::new(&engine);
        for import in module.imports() {
            let wasmtime::ExternType::Func(ty) = import.ty() else {
                bail!("{} is no function", import.name())
            };
            let function = wasmtime::Func::new(&mut store, ty, |_, _, results| {
                results
                    .iter_mut()
                    .for_each(|result| *result = wasmtime::Val::I32(BAD_DESCRIPTOR));
                Ok(())
            });
            linker.define(&mut store, import.module(), import.name(), function)?;
        }
        let instance = linker.instantiate(&mut store, &module)?;
        instance
            .get_typed_func::<(), ()>(&mut store, "_initialize")?
            .call(&mut store, ())?;
        Ok(Wasmtime {
            memory: instance
                .get_memory(&mut store, "memory")
                .ok_or_else(|| anyhow!("no memory"))?,
            malloc: instance.get_typed_func(&mut store, "malloc")?,
            free: instance.get_typed_func(&mut store, "free")?,
            function: instance.get_typed_func(&mut store, FUNCTION)?,
            store,
            answer: Vec::new(),
        })
    }

    copy_in!();
}

impl Engine for Wasmtime {
    call_as_fluent_bit_does!();
}
