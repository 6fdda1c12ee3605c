use std::rc::Rc;
use super::mailbox::Serves;
use super::pipe::TcpPipe;
use crate::frontend::port::FrontendContext;
pub(super) async fn serve(_pipe: TcpPipe, _f: Rc<FrontendContext>, _s: u32, _v: Serves) {}
