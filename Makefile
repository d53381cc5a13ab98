all:
	cargo build --release
