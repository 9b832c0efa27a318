"""The protobuf messages of the wire: `tinker_public.proto` and what protoc made of it."""
