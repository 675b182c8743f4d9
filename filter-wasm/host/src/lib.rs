//! A WebAssembly host that calls `rank_filter.wasm` exactly as Fluent Bit does.
//!
//! It exists so that tests, benchmarks and `rankline filter --wasm` run the very module that Fluent Bit loads, in an interpreter
//! like Fluent Bit's. It follows `filter_wasm` of Fluent Bit 5.1 in `event_format json`: tag and record are copied into the guest
//! with the guest's `malloc`, NUL-terminated; a failed copy is passed as a null pointer; the answer is read up to its NUL; null,
//! the empty string, a trap and anything that isn't a JSON object drop the record. It knows nothing about lines or ranks.

mod folder;
mod wasi;

use std::path::Path;

use thiserror::Error;
use wasmi::{Engine, Instance, Linker, Memory, Module, Store, TypedFunc};

use crate::folder::Folder;
use crate::wasi::Wasi;

/// Name of the function that Fluent Bit is configured to call.
const FUNCTION: &str = "rank_filter";

/// Why a module can't be used.
#[derive(Debug, Error)]
pub enum HostError {
    /// The bytes are no WebAssembly module that this interpreter can run.
    #[error("not a usable WebAssembly module: {0}")]
    Module(#[from] wasmi::Error),
    /// Something that Fluent Bit needs is not exported, or has another signature.
    #[error("the module does not export `{0}` as Fluent Bit needs it")]
    Export(&'static str),
    /// The guest's memory can't hold what is copied into it.
    #[error("the module's memory has no room at {0}")]
    Memory(u32),
}

/// How often records were dropped, by reason. Ticks that carry nothing out count as empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drops {
    /// A null pointer, or one outside the memory.
    pub null: u64,
    /// An empty string.
    pub empty: u64,
    /// The call trapped.
    pub trap: u64,
    /// The answer is no JSON object.
    pub not_object: u64,
}

/// One instance, which lives as long as Fluent Bit would.
pub struct Host {
    store: Store<Wasi>,
    memory: Memory,
    malloc: TypedFunc<u32, u32>,
    free: TypedFunc<u32, ()>,
    function: TypedFunc<(u32, u32, u32, u32, u32, u32), u32>,
    answer: Vec<u8>,
    drops: Drops,
}

impl Host {
    /// Starts a module. `files`: names and contents in the one accessible folder; without files there is no such folder.
    ///
    /// # Errors
    /// When the module can't be compiled or does not export what Fluent Bit needs.
    pub fn new(module: &[u8], files: Vec<(String, Vec<u8>)>) -> Result<Self, HostError> {
        Self::start(module, Folder::Memory(files))
    }

    /// Starts a module with a folder of this machine as its accessible one, where it keeps its spool.
    ///
    /// # Errors
    /// When the module can't be compiled or does not export what Fluent Bit needs.
    pub fn with_folder(module: &[u8], folder: &Path) -> Result<Self, HostError> {
        Self::start(module, Folder::Real(folder.to_owned()))
    }

    fn start(module: &[u8], folder: Folder) -> Result<Self, HostError> {
        let engine = Engine::default();
        let module = Module::new(&engine, module)?;
        let mut store = Store::new(&engine, Wasi::new(folder));
        let mut linker = Linker::new(&engine);
        wasi::link(&mut linker)?;
        let instance = linker.instantiate_and_start(&mut store, &module)?;
        let memory = instance
            .get_memory(&store, "memory")
            .ok_or(HostError::Export("memory"))?;
        // A reactor is initialised once; without this export every call would run constructors and destructors.
        typed::<(), ()>(&instance, &store, "_initialize")?.call(&mut store, ())?;
        Ok(Host {
            memory,
            malloc: typed(&instance, &store, "malloc")?,
            free: typed(&instance, &store, "free")?,
            function: typed(&instance, &store, FUNCTION)?,
            store,
            answer: Vec::new(),
            drops: Drops::default(),
        })
    }

    /// One call; the record that goes on, if any.
    ///
    /// # Errors
    /// When the module gives a buffer outside its own memory. A trap is no error: it drops the record, as in Fluent Bit.
    pub fn call(
        &mut self,
        tag: &[u8],
        sec: u32,
        nsec: u32,
        record: &[u8],
    ) -> Result<Option<&[u8]>, HostError> {
        let tag_at = self.copy_in(tag)?;
        let record_at = self.copy_in(record)?;
        let arguments = (tag_at, length(tag), sec, nsec, record_at, length(record));
        let answer = self.function.call(&mut self.store, arguments);
        let goes_on = match answer {
            Ok(at) => self.take_answer(at),
            Err(_) => {
                self.drops.trap += 1;
                false
            }
        };
        for at in [tag_at, record_at] {
            if at != 0 {
                let _ = self.free.call(&mut self.store, at);
            }
        }
        Ok(goes_on.then_some(self.answer.as_slice()))
    }

    /// How often records were dropped so far.
    pub fn drops(&self) -> Drops {
        self.drops
    }

    /// Bytes of the instance's memory, which never shrinks.
    pub fn memory_bytes(&self) -> usize {
        self.memory.data_size(&self.store)
    }

    /// Copies a NUL-terminated string in; 0 when the guest has no memory for it.
    fn copy_in(&mut self, text: &[u8]) -> Result<u32, HostError> {
        let Ok(at) = self.malloc.call(&mut self.store, length(text).saturating_add(1)) else {
            return Ok(0);
        };
        if at == 0 {
            return Ok(0);
        }
        let start = at as usize;
        let memory = self.memory.data_mut(&mut self.store);
        let room = memory
            .get_mut(start..start + text.len() + 1)
            .ok_or(HostError::Memory(at))?;
        room[..text.len()].copy_from_slice(text);
        room[text.len()] = 0;
        Ok(at)
    }

    /// Reads the answer up to its NUL; says whether it is a record.
    fn take_answer(&mut self, at: u32) -> bool {
        self.answer.clear();
        let text = self
            .memory
            .data(&self.store)
            .get(at as usize..)
            .filter(|_| at != 0);
        let Some((text, end)) = text.and_then(|text| Some((text, text.iter().position(|&b| b == 0)?))) else {
            self.drops.null += 1;
            return false;
        };
        if end == 0 {
            self.drops.empty += 1;
            return false;
        }
        self.answer.extend_from_slice(&text[..end]);
        let object = self.answer.trim_ascii_start().starts_with(b"{")
            && serde_json::from_slice::<&serde_json::value::RawValue>(&self.answer).is_ok();
        if !object {
            self.drops.not_object += 1;
        }
        object
    }
}

fn length(text: &[u8]) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}

fn typed<P, R>(
    instance: &Instance,
    store: &Store<Wasi>,
    name: &'static str,
) -> Result<TypedFunc<P, R>, HostError>
where
    P: wasmi::WasmParams,
    R: wasmi::WasmResults,
{
    instance
        .get_typed_func(store, name)
        .map_err(|_| HostError::Export(name))
}
