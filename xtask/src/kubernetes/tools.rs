//! What renders and judges, below `target/`: the program that renders charts, with Debian's Go; Debian's kustomize; schemas
//! from `PyPI` and models from npm, whose versions and hashes are files beside this one.

use std::{
    collections::{BTreeSet, VecDeque},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};
use xshell::{Shell, cmd};

use crate::{
    cache,
    debian::{self, Mirrors, PrivateApt},
    workspace,
};

const RENDER: &str = include_str!("render.go");
const REQUIREMENTS: &str = include_str!("requirements.txt");
const MODELS: &str = include_str!("models.mjs");
const PACKAGE: &str = include_str!("package.json");
const PACKAGE_LOCK: &str = include_str!("package-lock.json");

/// The release of Debian whose kustomize it is; older ones have none.
const KUSTOMIZE_FROM: &str = "trixie";

/// Go and what `render.go` imports.
const GO: [&str; 3] = ["golang-go", "golang-github-masterminds-sprig-dev", "golang-k8s-sigs-yaml-dev"];

pub(super) struct Tools {
    /// Renders charts.
    pub(super) render: PathBuf,
    pub(super) kustomize: PathBuf,
    /// The Python that has kubernetes-validate.
    pub(super) python: PathBuf,
    /// Holds objects against models.
    pub(super) models: PathBuf,
}

impl Tools {
    pub(super) fn provide(sh: &Shell) -> anyhow::Result<Self> {
        let folder = workspace::target_dir(sh)?.join("kubernetes");
        Ok(Self {
            render: render(sh, &folder)?,
            kustomize: kustomize(sh, &folder)?,
            python: schemas(sh, &folder)?,
            models: models(sh, &folder)?,
        })
    }
}

fn render(sh: &Shell, folder: &Path) -> anyhow::Result<PathBuf> {
    let built = cache::folder(&folder.join(named("render", &[RENDER])), |to| {
        let go = go(sh, folder)?;
        let source = to.join("render.go");
        fs::write(&source, RENDER)?;
        let program = to.join("render");
        let compiler = go.join("usr/lib/go/bin/go");
        cmd!(sh, "{compiler} build -o {program} {source}")
            .env("GOROOT", go.join("usr/lib/go"))
            .env("GOPATH", go.join("usr/share/gocode"))
            .env("GOCACHE", folder.join("go-cache"))
            .env("GO111MODULE", "off")
            .env("GOFLAGS", "")
            .env("CGO_ENABLED", "0")
            .run()?;
        Ok(())
    })?;
    Ok(built.join("render"))
}

/// Debian's Go and the libraries, with all that these need of Go.
fn go(sh: &Shell, folder: &Path) -> anyhow::Result<PathBuf> {
    cache::folder(&folder.join("go"), |to| {
        println!("Go: downloading");
        let suite = debian::codename()?;
        let sources = Mirrors::of_this_machine(sh)?.sources(&[&suite], &[&suite]);
        let apt = PrivateApt::new(sh, folder.join("go-apt"), &sources)?;
        apt.update()?;
        let mut wanted: VecDeque<String> = GO.map(str::to_owned).into();
        let mut unpacked = BTreeSet::new();
        while let Some(package) = wanted.pop_front() {
            if package.starts_with("golang-") && unpacked.insert(package.clone()) {
                apt.unpack(&package, to)?;
                wanted.extend(apt.dependencies(&package)?);
            }
        }
        Ok(())
    })
}

fn kustomize(sh: &Shell, folder: &Path) -> anyhow::Result<PathBuf> {
    let unpacked = cache::folder(&folder.join("kustomize"), |to| {
        println!("kustomize: downloading");
        let sources = Mirrors::of_this_machine(sh)?.sources(&[KUSTOMIZE_FROM], &[]);
        let apt = PrivateApt::new(sh, folder.join("kustomize-apt"), &sources)?;
        apt.update()?;
        apt.unpack("kustomize", to)
    })?;
    let program = unpacked.join("usr/bin/kustomize");
    ensure!(program.exists(), "Debian's package kustomize has no program of that name");
    Ok(program)
}

fn schemas(sh: &Shell, folder: &Path) -> anyhow::Result<PathBuf> {
    let environment = cache::folder(&folder.join(named("schemas", &[REQUIREMENTS])), |to| {
        println!("kubernetes-validate: downloading");
        cmd!(sh, "python3 -m venv {to}").run().context("install the package python3-venv")?;
        let (python, requirements) = (to.join("bin/python"), to.join("requirements.txt"));
        fs::write(&requirements, REQUIREMENTS)?;
        cmd!(
            sh,
            "{python} -m pip install --quiet --disable-pip-version-check --require-hashes --requirement {requirements}"
        )
        .run()?;
        Ok(())
    })?;
    // Not its scripts: those name the folder that they were installed in, which had another name then.
    Ok(environment.join("bin/python"))
}

fn models(sh: &Shell, folder: &Path) -> anyhow::Result<PathBuf> {
    let installed = cache::folder(&folder.join(named("models", &[PACKAGE, PACKAGE_LOCK, MODELS])), |to| {
        println!("Models of Kubernetes' objects: downloading");
        for (name, text) in
            [("package.json", PACKAGE), ("package-lock.json", PACKAGE_LOCK), ("models.mjs", MODELS)]
        {
            fs::write(to.join(name), text)?;
        }
        let _inside = sh.push_dir(to);
        cmd!(sh, "npm ci --ignore-scripts --no-audit --no-fund --loglevel=error")
            .run()
            .context("install the packages nodejs and npm")?;
        Ok(())
    })?;
    Ok(installed.join("models.mjs"))
}

/// The name of a folder that is another one whenever what it is made of is.
fn named(name: &str, made_of: &[&str]) -> String {
    let mut hash = Sha256::new();
    for text in made_of {
        hash.update(text);
    }
    let mut hash = hex::encode(hash.finalize());
    hash.truncate(12);
    format!("{name}-{hash}")
}
