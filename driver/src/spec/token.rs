//! The VF token, where somebody has said one: needed when the PF is itself in the hands of a VFIO user.

use vfnic_backend::VfToken;

use super::resolve::variables;
use super::{DeviceSpec, PciAddress, SpecError, System};

/// The variable that holds a token for every VF that needs one.
const VARIABLE: &str = "VFNIC_VF_TOKEN";

impl DeviceSpec {
    /// The token to open the function with: the environment's `VFNIC_VF_TOKEN`, or, for `k8s:` specs, what the device
    /// plugin's configuration says as `extraInfo.token`. A token is a secret, so no spec and no option holds it, and no
    /// error repeats it. One for a VF whose PF has a kernel driver does no harm: it is not sent.
    ///
    /// # Errors
    ///
    /// [`SpecError::Token`] for what is no UUID.
    pub fn vf_token_on(
        &self,
        system: &System<'_>,
        address: PciAddress,
    ) -> Result<Option<VfToken>, SpecError> {
        let parse = |variable: &str, text: &str| {
            text.trim().parse().map(Some).map_err(|_| SpecError::Token {
                variable: variable.to_owned(),
            })
        };
        if let Some(text) = (system.environment)(VARIABLE).filter(|text| !text.is_empty()) {
            return parse(VARIABLE, &text);
        }
        let Self::Kubernetes { resource, .. } = self else {
            return Ok(None);
        };
        for variable in variables(resource).map(|name| format!("{name}_INFO")) {
            let token = (system.environment)(&variable)
                .and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok())
                .and_then(|all| {
                    let token = all.get(address.to_string())?.get("extraInfo")?;
                    Some(token.get("token")?.as_str()?.to_owned())
                });
            if let Some(text) = token {
                return parse(&variable, &text);
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const TOKEN: &str = "14d63f20-8445-11ea-8900-1f9ce7d5650d";

    fn token(spec: &str, variables: &[(&str, &str)]) -> Result<Option<VfToken>, SpecError> {
        let environment = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let system = System {
            sysfs: Path::new("/nowhere"),
            environment: &environment,
        };
        let address = "0000:31:10.1".parse().expect("an address");
        spec.parse::<DeviceSpec>()
            .expect("a spec")
            .vf_token_on(&system, address)
    }

    #[test]
    fn a_token_comes_from_the_environment_or_from_the_device_plugin() {
        let expected = Some(TOKEN.parse::<VfToken>().expect("a token"));
        let info = format!(r#"{{"0000:31:10.1":{{"extraInfo":{{"token":"{TOKEN}"}}}}}}"#);
        let pod = [("PCIDEVICE_INTEL_COM_VFS_INFO", info.as_str())];
        assert_eq!(token("0000:31:10.1", &[]), Ok(None));
        assert_eq!(token("0000:31:10.1", &[(VARIABLE, TOKEN)]), Ok(expected));
        assert_eq!(token("k8s:intel.com/vfs", &pod), Ok(expected));
        // Somebody else's pool, another VF's entry, and no JSON at all.
        assert_eq!(token("0000:31:10.1", &pod), Ok(None));
        for text in [
            r#"{"0000:31:10.3":{"extraInfo":{"token":"x"}}}"#,
            "rubbish",
            "[]",
        ] {
            let pod = [("PCIDEVICE_INTEL_COM_VFS_INFO", text)];
            assert_eq!(token("k8s:intel.com/vfs/0", &pod), Ok(None), "{text}");
        }
    }

    #[test]
    fn what_is_no_token_is_named_by_its_place_and_not_repeated() {
        let info = r#"{"0000:31:10.1":{"extraInfo":{"token":"hush"}}}"#;
        for (spec, variable, value) in [
            ("0000:31:10.1", VARIABLE, "hush"),
            ("k8s:intel.com/vfs", "PCIDEVICE_INTEL_COM_VFS_INFO", info),
        ] {
            let error = token(spec, &[(variable, value)]).expect_err("no token");
            let text = error.to_string();
            assert!(text.contains(variable) && !text.contains("hush"), "{text}");
        }
    }
}
