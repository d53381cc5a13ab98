//! What a row of the directive table says, and the one way to set a directive through its row.

use super::load::not_supported;
use super::table::{Config, DIRECTIVES};
use super::value::{Form, Reason, Source, Value};

/// What the server must do after CONFIG SET changed a directive. Where nothing is named, the server reads the field
/// whenever it needs it, and a change takes effect by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apply {
    None,
    /// Listen on the new port, or fail with "Unable to listen on this port. Check server logs."
    Port,
    /// Listen on the new addresses, or fail with "Failed to bind to specified addresses."
    Bind,
    /// Raise the limit of open files, or fail with "The operating system is not able to handle the specified number
    /// of clients, try with N".
    MaxClients,
    /// Evict keys, or stop refusing commands.
    MaxMemory,
    /// Count what clients take, or no longer.
    MaxMemoryClients,
    /// Tell the log its new level, or the new form of its lines.
    Log,
    /// Pace the cron anew.
    Hz,
    /// Give the default user its new password, or none.
    RequirePass,
    /// Resize the replication backlog.
    ReplBacklogSize,
    /// Count anew the replicas that are good enough to accept writes.
    MinReplicas,
    /// Write the new score, or fail with "Failed to set current oom_score_adj. Check server logs."
    OomScoreAdj,
    /// Set the new title, or fail with "failed to set process title".
    ProcTitle,
    /// Enter the new directory.
    Dir,
    /// Start or stop the allocator's own thread.
    JemallocBgThread,
    /// Install or remove the handlers that report a crash, and let panics end as they are to.
    CrashLog,
    /// Begin to write the append-only file, or fail with "Unable to turn on AOF. Check server logs."; or end it.
    AppendOnly,
    /// Sync the append-only file as it says from now on.
    AppendFsync,
    /// Delete what is history among the append-only files, or no longer.
    AofAutoGc,
    /// Watch the event loop, or no longer.
    Watchdog,
}

/// Rules on changing a directive while the server runs.
pub(super) mod rule {
    pub const MODIFIABLE: u8 = 0;
    pub const IMMUTABLE: u8 = 1;
    /// Shown by CONFIG GET only under its full name.
    pub const HIDDEN: u8 = 1 << 1;
    /// Changed only by those whom `enable-protected-configs` allows.
    pub const PROTECTED: u8 = 1 << 2;
    pub const DENY_LOADING: u8 = 1 << 3;
    /// Its value is kept out of logs.
    pub const SENSITIVE: u8 = 1 << 4;
    /// Its other name is a newer one, which is shown only where it is asked for.
    pub const NEWER_ALIAS: u8 = 1 << 6;
    /// It takes several words.
    pub const MULTI_ARG: u8 = 1 << 5;
}

/// Refuses some arguments beyond what the type of the value refuses.
pub(super) type Check = fn(&[u8]) -> Result<(), &'static str>;

#[derive(Clone, Copy)]
pub struct Directive {
    pub name: &'static str,
    /// Its older name, which every command understands and shows likewise.
    pub alias: Option<&'static str>,
    pub(super) rules: u8,
    pub(super) form: Form,
    pub(super) apply: Apply,
    check: Option<Check>,
    only: Option<Only>,
    pub(super) value: fn(&Config) -> &dyn Value,
    value_mut: fn(&mut Config) -> &mut dyn Value,
}

/// The value that means off, for a directive whose feature does not exist.
#[derive(Clone, Copy)]
struct Only {
    value: &'static str,
    because: &'static str,
}

/// A row before it gets its name and its field.
#[derive(Clone, Copy)]
pub(super) struct Row {
    rules: u8,
    form: Form,
    apply: Apply,
    check: Option<Check>,
    only: Option<Only>,
}

pub(super) const fn row(rules: u8, form: Form) -> Row {
    Row { rules, form, apply: Apply::None, check: None, only: None }
}

impl Row {
    pub const fn apply(self, apply: Apply) -> Row {
        Row { apply, ..self }
    }

    pub const fn check(self, check: Check) -> Row {
        Row { check: Some(check), ..self }
    }

    /// Any other value than this one is refused, `because` something is not built.
    pub const fn only(self, value: &'static str, because: &'static str) -> Row {
        Row { only: Some(Only { value, because }), ..self }
    }

    pub const fn named(
        self,
        name: &'static str,
        alias: Option<&'static str>,
        value: fn(&Config) -> &dyn Value,
        value_mut: fn(&mut Config) -> &mut dyn Value,
    ) -> Directive {
        let Row { rules, form, apply, check, only } = self;
        Directive { name, alias, rules, form, apply, check, only, value, value_mut }
    }
}

impl Directive {
    /// A secret: the server redacts its value where commands are logged.
    pub fn is_sensitive(&self) -> bool {
        self.has(rule::SENSITIVE)
    }

    pub(super) fn has(&self, rule: u8) -> bool {
        self.rules & rule != 0
    }

    pub(super) fn show(&self, config: &Config) -> Vec<u8> {
        (self.value)(config).show(self.form)
    }

    /// Sets the directive. After a refusal the caller throws `config` away.
    pub(super) fn set(&self, config: &mut Config, args: &[Vec<u8>], source: Source) -> Result<(), Reason> {
        if let (Some(check), [arg]) = (self.check, args) {
            check(arg)?;
        }
        (self.value_mut)(config).set(self.form, args, source)?;
        if let Some(only) = self.only
            && self.show(config) != only.value.as_bytes()
        {
            return Err(not_supported(self.name.as_bytes(), args, only.because));
        }
        Ok(())
    }
}

/// Finds a directive by either of its names, in any case; returns with it the name it was found by.
pub fn lookup(name: &[u8]) -> Option<(&'static Directive, &'static str)> {
    let name = super::newer::alias(name).map_or(name, str::as_bytes);
    DIRECTIVES.iter().find_map(|directive| {
        let names = [Some(directive.name), directive.alias];
        let found = names.into_iter().flatten().find(|known| name.eq_ignore_ascii_case(known.as_bytes()));
        found.map(|found| (directive, found))
    })
}
