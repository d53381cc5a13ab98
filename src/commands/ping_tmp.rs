use crate::exec::flags::*;
use crate::exec::{CmdResult, Command, Ctx, Done, data};
use crate::server::Server;
pub const COMMANDS: &[Command<Server>] = &[data("ping", ping, -1).flags(FAST)];
fn ping(ctx: &mut Ctx) -> CmdResult {
    ctx.reply.simple("PONG");
    Ok(Done)
}
