// pino with pino-loki: two lines, then the end of the stream.
import pino from "pino";
import pinoLoki from "pino-loki";

const [host] = process.argv.slice(2);
const stream = pinoLoki({
  host,
  labels: { application: "node-trainer" },
  batching: { interval: 1 },
  silenceErrors: false,
});
const logger = pino({ level: "info" }, stream);
logger.info({ rank: 3 }, "step 10 loss 2.31");
logger.error("loss is NaN");
setTimeout(() => stream.end(), 200);
stream.on("close", () => process.exit(0));
setTimeout(() => process.exit(3), 10_000);
