// A worker in C++ that uses only libzmq and protobuf. docs/book/src/protocol.md explains it.
#include <csignal>
#include <iostream>
#include <optional>
#include <sstream>
#include <zmq.hpp>
#include "palm.pb.h"
using std::string;

// The functions of this worker; without a result if the name is unknown.
static std::optional<string> call(const string &function, const string &payload, const string &worker) {
    if (function == "foo") return worker + " processed " + payload;
    return std::nullopt;
}

// Returns the value of `key` at the master's cache service; waits for the master.
static string ask(zmq::context_t &context, const string &db_address, const string &key) {
    palm::PalmMessage request;
    request.set_function("_.get");
    request.set_payload(key);
    for (zmq::message_t reply;;) {
        zmq::socket_t socket(context, ZMQ_REQ);  // A new one each time: a REQ without its reply cannot send again.
        socket.set(zmq::sockopt::linger, 0);
        socket.set(zmq::sockopt::rcvtimeo, 1000);
        socket.connect(db_address);
        socket.send(zmq::buffer(request.SerializeAsString()));
        if (!socket.recv(reply)) continue;
        if (reply.empty()) throw std::runtime_error(db_address + " has no " + key);
        return reply.to_string();
    }
}

// Returns the function of this step: word number `stage`, or the whole text; the part after its dot.
static string name(const palm::PalmMessage &task) {
    std::istringstream words(task.function());
    string word;
    for (auto step = task.function().find(' ') == string::npos ? 0 : task.stage(); step >= 0; --step)
        if (!(words >> word)) return "";
    return word.find('.') == string::npos ? "" : word.substr(word.find('.') + 1);
}

// Returns the answer to a task: the same message with a new payload; unknown fields are kept.
static string answer(const string &bytes, const string &worker) {
    palm::PalmMessage task;
    palm::Extensions had, added;  // Of the task, and to append to its answer.
    if (!task.ParseFromString(bytes)) throw std::runtime_error("dropping a frame that is not a PalmMessage");
    if (had.ParseFromString(bytes) && had.has_error()) return bytes;  // An earlier step has failed.
    added.mutable_error()->set_component(worker);
    added.mutable_error()->set_step(task.stage());
    try {
        if (auto result = call(name(task), task.payload(), worker)) {
            task.set_payload(*result);
            return task.SerializeAsString();
        }
        added.mutable_error()->set_kind(palm::Error::UNKNOWN_FUNCTION);
        added.mutable_error()->set_message("the worker has no such function");
    } catch (const std::exception &failure) {
        added.mutable_error()->set_message(failure.what());
    }
    task.set_payload("0");
    return task.SerializeAsString() + added.SerializeAsString();
}

static volatile std::sig_atomic_t stopping = 0;
int main(int argc, char **argv) {
    if (argc != 3) return std::cout << "usage: worker NAME DB_ADDRESS\n", argc == 2 ? 0 : 2;
    zmq::context_t context;
    zmq::socket_t tasks(context, ZMQ_PULL), answers(context, ZMQ_PUSH);
    answers.connect(ask(context, argv[2], "worker_pull_address"));
    tasks.connect(ask(context, argv[2], "worker_push_address"));
    answers.set(zmq::sockopt::linger, 2000);  // Time for the last answer to leave.
    tasks.set(zmq::sockopt::rcvtimeo, 200);   // A signal is noticed within this time.
    for (int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { stopping = 1; });
    for (zmq::message_t task; !stopping;) try {
        if (tasks.recv(task)) answers.send(zmq::buffer(answer(task.to_string(), argv[1])));
    } catch (const std::exception &error) {
        if (!stopping) std::cerr << error.what() << '\n';
    }
}
