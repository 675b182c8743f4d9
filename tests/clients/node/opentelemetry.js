// OpenTelemetry's SDK with its OTLP exporters over HTTP, sending JSON or protobuf, plain or gzip.
import { SeverityNumber } from "@opentelemetry/api-logs";
import { OTLPLogExporter as JsonExporter } from "@opentelemetry/exporter-logs-otlp-http";
import { OTLPLogExporter as ProtobufExporter } from "@opentelemetry/exporter-logs-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchLogRecordProcessor, LoggerProvider } from "@opentelemetry/sdk-logs";

const [host, encoding, compression] = process.argv.slice(2);
const Exporter = encoding === "json" ? JsonExporter : ProtobufExporter;
const exporter = new Exporter({ url: `${host}/otlp/v1/logs`, compression });
const provider = new LoggerProvider({
  resource: resourceFromAttributes({ "service.name": `otel-${encoding}`, "host.name": "gpu-node-0" }),
  processors: [new BatchLogRecordProcessor({ exporter })],
});
const logger = provider.getLogger("llama.train", "1.2");
logger.emit({
  timestamp: Date.now(),
  body: "step 20 loss 1.98",
  severityNumber: SeverityNumber.WARN,
  severityText: "WARN",
  attributes: { rank: 5, loss: 1.98, finished: false, hosts: ["a", "b"], place: { rack: 7 } },
});
logger.emit({
  timestamp: Date.now(),
  body: { event: "checkpoint", bytes: 1024 },
  severityNumber: SeverityNumber.INFO,
});
await provider.forceFlush();
await provider.shutdown();
