//! The live tail over a WebSocket.
