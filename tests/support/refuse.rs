//! A program that the system refuses some calls: a seccomp filter, which the program inherits.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Which calls fail, and with which error.
#[derive(Clone, Debug)]
pub struct Refusal {
    filter: Vec<libc::sock_filter>,
}

/// These calls fail with that error.
pub fn refuse(calls: &[libc::c_long], errno: i32) -> Refusal {
    let op = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    // The number of the call is the first word of what a filter is shown.
    let mut filter = vec![op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    for &call in calls {
        filter.push(libc::sock_filter {
            jf: 1,
            ..op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, call as u32)
        });
        filter.push(op(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32));
    }
    filter.push(op(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    Refusal { filter }
}

impl Refusal {
    /// What the command starts is refused those calls.
    pub fn apply(&self, command: &mut Command) {
        let mut filter = self.filter.clone();
        let install = move || {
            let program =
                libc::sock_fprog { len: filter.len() as libc::c_ushort, filter: filter.as_mut_ptr() };
            // SAFETY: prctl is async-signal-safe; the kernel copies the program before it returns.
            let done = unsafe {
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                    && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0
            };
            if done { Ok(()) } else { Err(io::Error::last_os_error()) }
        };
        // SAFETY: the closure does nothing between fork and exec but the calls above.
        unsafe { command.pre_exec(install) };
    }
}
