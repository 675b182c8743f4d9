// winston with winston-loki, sending JSON or snappy-compressed protobuf, one by one or in batches.
import winston from "winston";
import LokiTransport from "winston-loki";

const [host, encoding, batching] = process.argv.slice(2);
const transport = new LokiTransport({
  host,
  json: encoding === "json",
  batching: batching === "batched",
  interval: 1,
  timeout: 5000,
  labels: { application: "winston-trainer" },
  format: winston.format.printf((info) => `${info.message}`),
  gracefulShutdown: false,
  onConnectionError: (error) => {
    console.error(error);
    process.exit(2);
  },
});
const logger = winston.createLogger({ level: "debug", transports: [transport] });
logger.info("step 10 loss 2.31", { rank: "3", step: 10 });
logger.warn('a quote " and a backslash \\ and ünïcode ✓', { rank: "3" });
logger.error({ message: "loss is NaN", labels: { part: "loss" } });
await transport.flush();
setTimeout(async () => {
  await transport.flush();
  process.exit(0);
}, 1500);
