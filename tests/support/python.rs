//! Python environments of the suite's, each with one package that somebody else wrote.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// An environment below the build's folder. It is made once; later runs need no network.
pub(crate) struct Environment {
    folder: &'static str,
    package: &'static str,
    version: &'static str,
    /// What the package needs besides and does not ask for.
    beside: &'static [&'static str],
    python: OnceLock<PathBuf>,
}

impl Environment {
    pub(crate) const fn new(
        folder: &'static str,
        package: &'static str,
        version: &'static str,
    ) -> Self {
        Self {
            folder,
            package,
            version,
            beside: &[],
            python: OnceLock::new(),
        }
    }

    pub(crate) const fn beside(mut self, packages: &'static [&'static str]) -> Self {
        self.beside = packages;
        self
    }

    /// The environment's interpreter.
    pub(crate) fn python(&self) -> &PathBuf {
        self.python.get_or_init(|| {
            let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(self.folder);
            let python = home.join("bin/python");
            if !self.is_ready(&python) {
                self.make(&home, &python);
            }
            python
        })
    }

    fn is_ready(&self, python: &Path) -> bool {
        let asked = format!(
            "from importlib.metadata import version; assert version('{}') == '{}'",
            self.package, self.version
        );
        let answer = Command::new(python).args(["-c", &asked]).output();
        answer.is_ok_and(|answer| answer.status.success())
    }

    fn make(&self, home: &Path, python: &Path) {
        let venv = Command::new("python3")
            .args(["-m", "venv"])
            .arg(home)
            .status();
        assert!(
            venv.expect("python3 runs").success(),
            "python3 -m venv works"
        );
        let wanted = format!("{}=={}", self.package, self.version);
        let pip = Command::new(python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ])
            .arg(&wanted)
            .args(self.beside)
            .status();
        assert!(pip.expect("pip runs").success(), "pip installs {wanted}");
    }
}
