//! The controller of this process.

use std::sync::Arc;

use controller::{Controller, ControllerSettings, StartError};
use net::session::Transport;
use store::disk::real::RealDisk;

use crate::failure::Failure;
use crate::process::StopSignals;

/// Opens files and port. A controller that cannot go on stops the process.
pub(crate) fn start(settings: ControllerSettings, transport: Transport) -> Result<Controller, Failure> {
    Controller::start(settings, transport, Arc::new(RealDisk), StopSignals::send).map_err(|error| {
        let failure = Failure::new(&error);
        match &error {
            StartError::Listen(cause) if cause.kind() == std::io::ErrorKind::AddrInUse => {
                failure.advice("Stop the process that listens there, or choose another port in controllerDLegerPeers, on all controllers")
            }
            _ => failure,
        }
    })
}
