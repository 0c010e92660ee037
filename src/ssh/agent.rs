//! ssh-agent: which keys it holds, and its signatures.
//!
//! An agent that is missing, silent or unwilling is no reason to give up: the caller goes on with what it has.

use std::path::Path;
use std::time::Duration;

use russh::keys::HashAlg;
use russh::keys::agent::client::AgentClient;
use russh::keys::agent::{AgentIdentity, AgentSessionBinding};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::key_file::shown;
use super::key_text::may_log_in;

/// How long an agent may take to tell what it holds.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long it may take to sign: it may have to ask a person, or wait for a touch.
const SIGNING: Duration = Duration::from_secs(60);

/// A connection to an agent.
pub(super) struct Agent {
    /// Nothing once it did not answer in time: a late answer would be taken for the next one.
    client: Option<AgentClient<UnixStream>>,
}

impl Agent {
    /// Connects, and asks which keys and certificates there are, in the agent's order; those that no server here takes are
    /// left out. With `binding` the agent knows for which connection it signs.
    pub(super) async fn connect(
        socket: &Path,
        binding: Option<&AgentSessionBinding>,
    ) -> Result<(Self, Vec<AgentIdentity>), String> {
        let failed = |cause: &dyn std::fmt::Display| format!("ssh-agent {}: {cause}", shown(socket));
        let asking = async {
            let mut client = AgentClient::connect_uds(socket).await?;
            if let Some(binding) = binding {
                // An agent that does not know this still signs, if the key is not bound to some hosts.
                let _ = client.bind_session(binding, false).await;
            }
            let held = client.request_identities().await?;
            Ok::<_, russh::keys::Error>((client, held))
        };
        match timeout(PATIENCE, asking).await {
            Ok(Ok((client, mut held))) => {
                held.retain(|identity| may_log_in(identity.public_key().key_data()).is_ok());
                Ok((Self { client: Some(client) }, held))
            }
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(failed(&format_args!("no answer within {} seconds", PATIENCE.as_secs()))),
        }
    }

    /// `data` with the agent's signature behind it, as an SSH login has it.
    pub(super) async fn sign(
        &mut self,
        identity: &AgentIdentity,
        hash: Option<HashAlg>,
        data: Vec<u8>,
    ) -> Result<Vec<u8>, String> {
        let client = self.client.as_mut().ok_or("ssh-agent: it did not answer before")?;
        match timeout(SIGNING, client.sign_request(identity, hash, data)).await {
            Ok(signed) => signed.map_err(|error| format!("ssh-agent: {error}")),
            Err(_) => {
                self.client = None;
                Err(format!("ssh-agent: no signature within {} seconds", SIGNING.as_secs()))
            }
        }
    }
}
