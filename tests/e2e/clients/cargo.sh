mkdir -p src .cargo
cat > .cargo/config.toml <<END
[registries.test]
index = "sparse+https://crates.example.com/"
END
cat > Cargo.toml <<END
[package]
name = "client"
version = "0.1.0"
edition = "2021"
[dependencies]
tiny = { version = "1", registry = "test" }
END
echo 'fn main() { println!("{}", tiny::version()); }' > src/main.rs
cargo run -q
