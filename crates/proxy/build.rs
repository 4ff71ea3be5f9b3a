//! Compiles the `.proto` files in `proto`, without `protoc`.

use prost::Message;
use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    const FILES: [&str; 3] = [
        "apache/rocketmq/v2/definition.proto",
        "apache/rocketmq/v2/service.proto",
        "apache/rocketmq/v2/admin.proto",
    ];
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // For reflection.
    std::fs::write(out.join("descriptors.bin"), files.encode_to_vec())?;
    let mut config = prost_build::Config::new();
    // Bodies are slices of the read buffer.
    config.bytes([".apache.rocketmq.v2"]);
    config.btree_map([".apache.rocketmq.v2"]);
    let builder = tonic_prost_build::configure()
        .build_client(true)
        .build_transport(false)
        .codec_path("crate::codec::Codec");
    builder.compile_fds_with_config(files, config)?;
    Ok(())
}
