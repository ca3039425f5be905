// A client of the gRPC service, from its .proto files alone; run it in the root of the repository.
// TOKEN is the access token, GRPC_ADDRESS where the service is, DEADLINE_SECONDS how long a call may take.
// Prints one JSON object a line. An error is one line on standard error and exit code 1.

import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";
import protobuf from "protobufjs";

const USAGE = `usage: client.mjs get ID | list [PAGE_SIZE [PAGE_TOKEN]] | events [PAGE_SIZE [PAGE_TOKEN]]
       | watch AFTER_POSITION COUNT | health [SERVICE]`;
const OPTIONS = { keepCase: true, longs: String, defaults: true };
const FILES = ["protos/bookstore/v1/books.proto", "protos/bookstore/v1/events.proto"];

// What every gRPC service shares: the standard health service, and how errors carry details.
const STANDARD = protobuf.parse(`
  syntax = "proto3";
  package grpc.health.v1;
  message HealthCheckRequest { string service = 1; }
  message HealthCheckResponse {
    enum ServingStatus { UNKNOWN = 0; SERVING = 1; NOT_SERVING = 2; SERVICE_UNKNOWN = 3; }
    ServingStatus status = 1;
  }
  service Health { rpc Check(HealthCheckRequest) returns (HealthCheckResponse); }
`, { keepCase: true }).root;
const DETAILS = protobuf.parse(`
  syntax = "proto3";
  package google.rpc;
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
`, { keepCase: true }).root;

const { bookstore } = grpc.loadPackageDefinition(loader.loadSync(FILES, { ...OPTIONS, includeDirs: ["."] }));
const health = grpc.loadPackageDefinition(loader.fromJSON(STANDARD.toJSON(), { ...OPTIONS, enums: String }));

const address = process.env.GRPC_ADDRESS ?? "127.0.0.1:50051";
const credentials = grpc.credentials.createInsecure();
const metadata = new grpc.Metadata();
if (process.env.TOKEN) metadata.set("authorization", `Bearer ${process.env.TOKEN}`);

function options() {
  return { deadline: Date.now() + Number(process.env.DEADLINE_SECONDS ?? 10) * 1000 };
}

function print(message) {
  console.log(JSON.stringify(message));
}

function call(client, method, request) {
  return new Promise((resolve, reject) => {
    client[method](request, metadata, options(), (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

// Ends after `count` events: the server hears of that at once, and does nothing more for the stream.
function watch(client, request, count) {
  return new Promise((resolve, reject) => {
    const stream = client.WatchDeliveredEvents(request, metadata, options());
    let left = count;
    stream.on("data", ({ event }) => {
      if (left === 0) return;
      print(event);
      left -= 1;
      if (left === 0) stream.cancel();
    });
    stream.on("error", (error) => {
      if (error.code === grpc.status.CANCELLED && left === 0) resolve();
      else reject(error);
    });
  });
}

function errorInfo(error) {
  const [packed] = error.metadata?.get("grpc-status-details-bin") ?? [];
  if (packed === undefined) return {};
  const { details } = DETAILS.lookupType("google.rpc.Status").decode(packed);
  const info = details.find(({ type_url }) => type_url.endsWith("/google.rpc.ErrorInfo"));
  if (info === undefined) return {};
  const type = DETAILS.lookupType("google.rpc.ErrorInfo");
  return type.toObject(type.decode(info.value), { defaults: true });
}

async function main([command, first, second]) {
  const books = new bookstore.v1.BookService(address, credentials);
  const events = new bookstore.v1.EventService(address, credentials);
  const page = { page_size: Number(first ?? 0), page_token: second ?? "" };
  if (command === "get" && first) print((await call(books, "GetBook", { id: first })).book);
  else if (command === "list") print(await call(books, "ListBooks", page));
  else if (command === "events") print(await call(events, "ListDeliveredEvents", page));
  else if (command === "watch" && second) await watch(events, { after_position: first }, Number(second));
  else if (command === "health") {
    const client = new health.grpc.health.v1.Health(address, credentials);
    print(await call(client, "Check", { service: first ?? "" }));
  } else {
    console.error(USAGE);
    process.exitCode = 2;
  }
}

main(process.argv.slice(2)).catch((error) => {
  if (!(error.code in grpc.status)) throw error;
  console.error(JSON.stringify({ code: grpc.status[error.code], message: error.details, ...errorInfo(error) }));
  process.exitCode = 1;
});
