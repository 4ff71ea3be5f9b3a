//! `cargo run --release -p fuzz -- TARGET|all|FILE... --seconds N --seed S`: a run of random inputs; with files, these inputs once more.

use fuzz::run::{Failed, corpus, keep, random, replay};
use fuzz::{TARGETS, Target};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    match asked(std::env::args().skip(1)).and_then(|asked| go(&asked)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(told) => {
            eprintln!("fuzz: {told}");
            ExitCode::FAILURE
        }
    }
}

struct Asked {
    targets: Vec<&'static Target>,
    files: Vec<String>,
    time: Duration,
    seed: u64,
}

fn asked(arguments: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut asked = Asked {
        targets: Vec::new(),
        files: Vec::new(),
        time: Duration::from_secs(10),
        seed: 1,
    };
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        let mut number = || {
            arguments
                .next()
                .and_then(|text| text.parse().ok())
                .ok_or(format!("{argument} needs a number"))
        };
        match argument.as_str() {
            "--seconds" => asked.time = Duration::from_secs(number()?),
            "--seed" => asked.seed = number()?,
            "all" => asked.targets.extend(TARGETS),
            name => match TARGETS.iter().find(|target| target.name == name) {
                Some(target) => asked.targets.push(target),
                None => asked.files.push(name.to_owned()),
            },
        }
    }
    if asked.targets.is_empty() {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        return Err(format!(
            "TARGET|all [FILE...] [--seconds N] [--seed S], with a target of {}",
            names.join(" ")
        ));
    }
    Ok(asked)
}

fn go(asked: &Asked) -> Result<(), String> {
    for target in &asked.targets {
        if !asked.files.is_empty() {
            let inputs: Result<Vec<_>, _> = asked.files.iter().map(std::fs::read).collect();
            replay(target, &inputs.map_err(|error| error.to_string())?).map_err(|failed| told(&failed))?;
            continue;
        }
        let seeds = corpus(target).map_err(|error| error.to_string())?;
        replay(target, &seeds).map_err(|failed| told(&failed))?;
        let begun = Instant::now();
        let count = random(target, &seeds, asked.seed, |count| count % 64 != 0 || begun.elapsed() < asked.time);
        let count = count.map_err(|failed| told(&failed))?;
        let rate = count as f64 / begun.elapsed().as_secs_f64();
        println!("{:<12} {count} inputs, {rate:.0} a second, corpus {}", target.name, seeds.len());
    }
    Ok(())
}

fn told(failed: &Failed) -> String {
    let kept = match keep(failed, Path::new("target/fuzz")) {
        Ok(path) => format!("cargo run -p fuzz -- {} {}", failed.target, path.display()),
        Err(error) => format!("and the input could not be kept: {error}"),
    };
    format!(
        "{} fails on {} bytes: {}\nagain: {kept}",
        failed.target,
        failed.input.len(),
        failed.why
    )
}
