use super::mailbox::Serves;
use super::pipe::TcpPipe;
use crate::frontend::port::FrontendContext;
use std::rc::Rc;
pub(super) async fn serve(_pipe: TcpPipe, _f: Rc<FrontendContext>, _s: u32, _v: Serves) {}
