//! The watchdog (`watchdog-period`): when the event loop does not come round in time, the log tells where it stands.
//!
//! The loop winds a timer up again whenever it comes by; if it does not, the timer's signal interrupts whatever takes so
//! long, and its handler writes the stack to the log. The handler goes back to where it came from, so unlike a crash
//! report it never dares what is not async-signal-safe: it gives addresses, no names.

use std::time::Duration;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::crash;

/// Watches from now on, or no longer if the period is zero. The timer runs once it is armed.
pub fn watch(period: Duration) {
    let handler = if period.is_zero() { SigHandler::SigIgn } else { SigHandler::SigAction(expired) };
    let flags = SaFlags::SA_SIGINFO | SaFlags::SA_ONSTACK | SaFlags::SA_RESTART;
    arm(Duration::ZERO);
    // SAFETY: the handler only writes to the log, by what the crash report uses, which is async-signal-safe.
    unsafe { sigaction(Signal::SIGALRM, &SigAction::new(handler, flags, SigSet::empty())) }
        .expect("the alarm can be handled");
    arm(period);
}

/// The loop has come by: the signal comes if it does not again within the period.
pub fn arm(period: Duration) {
    let timer = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
        it_value: libc::timeval {
            tv_sec: period.as_secs() as libc::time_t,
            tv_usec: period.subsec_micros().into(),
        },
    };
    // SAFETY: the timer is a live local. (The call fails only for times that are none.)
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
}

extern "C" fn expired(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    crash::write_stack("--- WATCHDOG TIMER EXPIRED ---", context);
}
