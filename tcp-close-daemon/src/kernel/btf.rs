//! What the kernel's own type information (BTF) says of its structures, enums and tracepoints.

use std::{collections::BTreeMap, fs, path::Path};

use btf_rs::Type;
use tcp_close_abi::{Field, Layout};
use zerocopy::{FromBytes as _, IntoBytes as _};

/// Where a kernel with `CONFIG_DEBUG_INFO_BTF` publishes its BTF.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The BTF cannot answer what is asked of it.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file is missing, unreadable or not BTF.
    #[error("cannot read kernel BTF from {path}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why not.
        source: btf_rs::Error,
    },
    /// A structure the kernel side reads is not in this kernel, or has another shape.
    #[error("kernel BTF has no field {structure}.{path}")]
    NoField {
        /// The structure, as in the kernel's source.
        structure: &'static str,
        /// The path within it, joined by dots.
        path: String,
    },
}

/// The running kernel's BTF.
pub struct KernelBtf {
    btf: btf_rs::Btf,
}

impl KernelBtf {
    /// Reads the BTF at [`VMLINUX`].
    pub fn running() -> Result<Self, BtfError> {
        Self::from_file(Path::new(VMLINUX))
    }

    /// Reads BTF from a file.
    pub fn from_file(path: &Path) -> Result<Self, BtfError> {
        // The file at once: read by the piece, it takes a system call for each of its 150 000 types.
        let parsed =
            fs::read(path).map_err(btf_rs::Error::from).and_then(|bytes| btf_rs::Btf::from_bytes(&bytes));
        match parsed {
            Ok(btf) => Ok(Self { btf }),
            Err(source) => Err(BtfError::Unreadable { path: path.display().to_string(), source }),
        }
    }

    /// Byte offsets of every field in [`Layout::FIELDS`].
    pub fn layout(&self) -> Result<Layout, BtfError> {
        let mut offsets = Vec::with_capacity(Layout::FIELDS.len());
        for &Field { structure, path, optional } in Layout::FIELDS {
            let absent = || {
                if optional {
                    Ok(Layout::ABSENT)
                } else {
                    Err(BtfError::NoField { structure, path: path.join(".") })
                }
            };
            let offset = self.offset_of(structure, path).map_or_else(absent, Ok)?;
            offsets.extend_from_slice(&offset.to_ne_bytes());
        }
        Ok(Layout::read_from_bytes(&offsets).unwrap_or(Layout::ZERO))
    }

    /// Byte offset of a field, given by its path through nested structures.
    fn offset_of(&self, structure: &str, path: &[&str]) -> Option<u32> {
        let mut offset = 0;
        let mut container = self.structure(structure)?;
        for (depth, name) in path.iter().enumerate() {
            let (at, member) = self.member(&container, name)?;
            offset += at;
            if depth + 1 < path.len() {
                container = self.resolve(member)?;
            }
        }
        Some(offset)
    }

    fn structure(&self, name: &str) -> Option<Type> {
        let types = self.btf.resolve_types_by_name(name).ok()?;
        types.into_iter().find(|found| matches!(found, Type::Struct(_)))
    }

    /// Byte offset and type of a member, looked for in anonymous structures and unions too.
    fn member(&self, container: &Type, name: &str) -> Option<(u32, Type)> {
        let (Type::Struct(composite) | Type::Union(composite)) = container else {
            return None;
        };
        for member in &composite.members {
            let at = member.bit_offset() / 8;
            let member_name = self.btf.resolve_name(member).unwrap_or_default();
            let member_type = self.btf.resolve_chained_type(member).ok()?;
            if member_name == name {
                return Some((at, member_type));
            }
            if member_name.is_empty()
                && let Some((within, found)) = self.member(&self.resolve(member_type)?, name)
            {
                return Some((at + within, found));
            }
        }
        None
    }

    /// The type behind typedefs and qualifiers.
    fn resolve(&self, mut found: Type) -> Option<Type> {
        loop {
            found = match &found {
                Type::Typedef(alias) => self.btf.resolve_chained_type(alias).ok()?,
                Type::Const(alias) | Type::Volatile(alias) => self.btf.resolve_chained_type(alias).ok()?,
                _ => return Some(found),
            };
        }
    }

    /// Whether the kernel has a function of this name, exported or not.
    pub fn has_function(&self, name: &str) -> bool {
        let types = self.btf.resolve_types_by_name(name).unwrap_or_default();
        types.iter().any(|found| matches!(found, Type::Func(_)))
    }

    /// How many arguments a tracepoint passes; `None` for one this kernel does not have.
    ///
    /// From `typedef void (*btf_trace_NAME)(void *, …)`, whose first parameter is hidden.
    pub fn tracepoint_arguments(&self, name: &str) -> Option<usize> {
        let types = self.btf.resolve_types_by_name(&format!("btf_trace_{name}")).ok()?;
        let Some(Type::Typedef(alias)) = types.into_iter().next() else {
            return None;
        };
        let Type::Ptr(pointer) = self.btf.resolve_chained_type(&alias).ok()? else {
            return None;
        };
        let Type::FuncProto(prototype) = self.btf.resolve_chained_type(&pointer).ok()? else {
            return None;
        };
        Some(prototype.parameters.len().saturating_sub(1))
    }

    /// The kernel's BTF again, with nothing in it but these functions and typedefs, each under the number it has there:
    /// for who looks for types by their names only, one after the other, and among a hundred thousand.
    ///
    /// `Documentation/bpf/btf.rst`; all numbers are in the byte order of this machine.
    pub fn excerpt(&self, names: impl IntoIterator<Item = String>) -> Vec<u8> {
        // `BTF_KIND_FWD`, `BTF_KIND_TYPEDEF`, `BTF_KIND_FUNC` (include/uapi/linux/btf.h), none of which has more than
        // these three words: name, kind, and a type that it rests on.
        const NOTHING: [u32; 3] = [0, 7 << 24, 0];
        let mut types: Vec<[u32; 3]> = Vec::new();
        // The first name is the empty one.
        let mut strings = vec![0];
        for name in names {
            let at = u32::try_from(strings.len()).unwrap_or_default();
            strings.extend_from_slice(name.as_bytes());
            strings.push(0);
            for id in self.btf.resolve_ids_by_name(&name).unwrap_or_default() {
                let kind = match self.btf.resolve_type_by_id(id) {
                    Ok(Type::Typedef(_)) => 8 << 24,
                    Ok(Type::Func(_)) => 12 << 24,
                    _ => continue,
                };
                // Number 0 is `void`, which is in no table.
                let index = usize::try_from(id).unwrap_or_default().saturating_sub(1);
                if types.len() <= index {
                    types.resize(index + 1, NOTHING);
                }
                if let Some(place) = types.get_mut(index) {
                    *place = [at, kind, 0];
                }
            }
        }
        let types = types.as_flattened();
        let bytes_of_types = u32::try_from(size_of_val(types)).unwrap_or_default();
        let bytes_of_strings = u32::try_from(strings.len()).unwrap_or_default();
        // `struct btf_header`: a magic number, version 1, no flags; its own length, then where types and strings lie.
        let beginning = [&0xeb9f_u16.to_ne_bytes()[..], &[1, 0]].concat();
        let places = [24, 0, bytes_of_types, bytes_of_types, bytes_of_strings];
        [&beginning, places.as_bytes(), types.as_bytes(), &strings].concat()
    }

    /// Names of an enum's values, without `prefix` and in lower case; empty where the kernel has no such enum.
    pub fn enum_names(&self, name: &str, prefix: &str) -> BTreeMap<u32, String> {
        let Ok(types) = self.btf.resolve_types_by_name(name) else {
            return BTreeMap::new();
        };
        let Some(Type::Enum(found)) = types.into_iter().find(|found| matches!(found, Type::Enum(_))) else {
            return BTreeMap::new();
        };
        let named = found.members.iter().filter_map(|member| {
            let name = self.btf.resolve_name(member).ok()?;
            Some((member.val(), name.strip_prefix(prefix).unwrap_or(&name).to_lowercase()))
        });
        named.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every supported kernel has in common, by `include/net/sock.h` since Linux 4.18.
    #[test]
    fn running_kernel_has_every_field() {
        let btf = KernelBtf::running().expect("the kernel publishes BTF");
        let layout = btf.layout().expect("every field is there");
        assert_eq!((layout.family, layout.remote_port, layout.remote_v4, layout.local_v4), (16, 12, 0, 4));
        assert_eq!(layout.timer_function, 24);
        assert!(layout.write_seq > layout.local_port);
        assert!(btf.tracepoint_arguments("inet_sock_set_state") == Some(3));
        assert!(btf.tracepoint_arguments("no_such_tracepoint").is_none());
        assert!(btf.has_function("tcp_set_state") && !btf.has_function("no_such_function"));
    }

    #[test]
    fn an_excerpt_numbers_types_as_the_kernel_does() {
        let btf = KernelBtf::running().expect("the kernel publishes BTF");
        let names = ["tcp_set_state", "btf_trace_inet_sock_set_state", "tcp_sock", "no_such_name"];
        let excerpt = btf.excerpt(names.map(str::to_owned));
        let excerpt = btf_rs::Btf::from_bytes(&excerpt).expect("it is BTF");
        let ids = |btf: &btf_rs::Btf, name| btf.resolve_ids_by_name(name).unwrap_or_default();
        for name in ["tcp_set_state", "btf_trace_inet_sock_set_state"] {
            assert!(!ids(&excerpt, name).is_empty(), "{name}");
            assert_eq!(ids(&excerpt, name), ids(&btf.btf, name), "{name}");
        }
        assert!(ids(&excerpt, "tcp_sock").is_empty(), "nothing is attached to a structure");
    }
}
